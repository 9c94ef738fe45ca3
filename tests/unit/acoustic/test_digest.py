"""Digests: equal for equal values, whatever their order of keys; different for any change."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from acoustic.digest import config_digest
from acoustic.geometry import MelConfig
from tests.support.properties import quick

configs = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.booleans(), max_size=3)
)


@quick
@given(config=configs)
def test_the_order_of_the_keys_does_not_matter(config: dict[str, object]) -> None:
    turned = dict(reversed(config.items()))
    assert config_digest(config) == config_digest(turned)
    assert re.fullmatch("[0-9a-f]{12}", config_digest(config))


@quick
@given(config=configs, key=st.text(max_size=5), value=st.integers())
def test_a_changed_value_is_another_digest(config: dict[str, object], key: str, value: int) -> None:
    changed = {**config, key: value}
    is_same = key in config and config[key] == value and not isinstance(config[key], bool)
    assert (config_digest(changed) == config_digest(config)) == is_same


def test_the_border_between_two_values_counts() -> None:
    assert config_digest("ab", "c") != config_digest("a", "bc")
    assert config_digest("a", "b") != config_digest("b", "a")


def test_a_dataclass_is_the_same_as_its_fields() -> None:
    mel = MelConfig()
    fields = {name: getattr(mel, name) for name in mel.__slots__}
    assert config_digest(mel) == config_digest(fields)
    assert config_digest(mel) != config_digest(replace(mel, n_mels=64))


def test_the_digest_is_that_of_the_canonical_json() -> None:
    text = b'[{"a":1,"b":[true,null]},"x"]'
    expected = hashlib.sha256(text).hexdigest()[:12]
    assert config_digest({"b": [True, None], "a": 1}, "x") == expected
