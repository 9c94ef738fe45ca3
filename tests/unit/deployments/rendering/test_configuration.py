"""The configuration page: every key of the settings, with the code's own defaults."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from acoustic.errors import ConfigError
from deployments.config import ServiceConfig
from deployments.rendering.configuration import PAGE, Key, keys, render_configuration
from deployments.strict import parse_strict
from tests.support.paths import ROOT

KEYS = list(keys())
WITH_VALUES = [key for key in KEYS if "`" in key.values]


def nested(name: str, value: object) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def test_the_page_is_up_to_date() -> None:
    assert render_configuration()[PAGE] == PAGE.read_text(), "run `acousticsense k8s render`"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_with_its_default_is_what_the_built_in_settings_say(key: Key) -> None:
    node = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text())
    for part in key.name.split("."):
        if part not in node:
            assert key.name == "engine.accelerator"  # set by serve_config.yaml
            return
        node = node[part]
    assert yaml.safe_load(key.default) == node


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_is_accepted_alone_and_described(key: Key) -> None:
    values = nested(key.name, yaml.safe_load(key.default))
    assert parse_strict(ServiceConfig, values, "test") == ServiceConfig()
    assert len(key.meaning) > 10


@pytest.mark.parametrize("key", WITH_VALUES, ids=lambda key: key.name)
def test_every_listed_value_is_accepted_and_no_other(key: Key) -> None:
    for value in re.findall(r"`([^`]+)`", key.values):
        config: object = parse_strict(ServiceConfig, nested(key.name, value), "test")
        for part in key.name.split("."):
            config = getattr(config, part)
        assert config == value
    with pytest.raises(ConfigError, match=re.escape(key.name)):
        parse_strict(ServiceConfig, nested(key.name, "another"), "test")
