"""Settings: unknown keys are rejected, defaults are documented, files are cross-checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from acoustic.errors import ConfigError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from deployments.built_in import COLOCATED, built_in
from deployments.config import (
    CHECKPOINT_VARIABLE,
    ServiceConfig,
    check_models,
    load_config,
    load_rules,
    merge_config,
)
from deployments.serve_check import check_serve_config
from deployments.strict import parse_strict
from deployments.taxonomies import load_taxonomies
from tests.support.paths import ROOT

DEFAULT = ROOT / "configs" / "default.yaml"
SERVE = ROOT / "serve_config.yaml"

FROM_ELSEWHERE = {
    "preprocess.mel",
    "engine.accelerator",
    "postprocess.rules",
    "postprocess.taxonomies",
}
"""Set by the checkpoint, serve_config.yaml and files of their own, so not in default.yaml."""


def test_the_file_says_what_the_defaults_are() -> None:
    rules = load_rules(ROOT / "configs" / "rules.yaml")
    taxonomies = load_taxonomies(ROOT / "configs" / "taxonomies")
    postprocess = replace(PostprocessConfig(), rules=rules, taxonomies=taxonomies)
    assert load_config(DEFAULT) == replace(ServiceConfig(), postprocess=postprocess)


def leaves(cls: Any, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        name = prefix + field.name
        if name in FROM_ELSEWHERE:
            continue
        if is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name], f"{name}.")
        else:
            yield name


@pytest.mark.parametrize("key", list(leaves(ServiceConfig)))
def test_every_setting_stands_in_the_file(key: str) -> None:
    node = yaml.safe_load(DEFAULT.read_text())
    for part in key.split("."):
        assert part in node, key
        node = node[part]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preproces: {}", "preproces: unknown key, did you mean 'preprocess'"),
        (
            "preprocess: {min_duration: 3}",
            r"preprocess\.min_duration: unknown key, did you mean 'min_duration_s'",
        ),
        ("coverage: 0.9", "coverage: unknown key, it belongs under 'postprocess'"),
        ("max_channels: 3", "max_channels: unknown key, it belongs under 'preprocess.limits'"),
        ("postprocess: {http: {}}", r"postprocess\.http: unknown key, it belongs at the top level"),
        ("postprocess: {review: {min_confidence: high}}", r"min_confidence: input should be"),
        ("postprocess: {review: {min_confidence: 7}}", "outside its range"),
        ("postprocess: {aggregation: median}", "aggregation"),
        ("engine: {batch_sizes: [8, 4]}", "rising"),
        ("engine: {batch_sizes: [1, 2, 4]}", "up to 10 windows, but the largest batch is 4"),
        ("preprocess: {mel: {n_mels: 40}}", "belongs to the checkpoint"),
        ("http: {request_timeout_s: -5}", "must be positive"),
        ("cache: {memory_bytes: -4}", "must not be negative"),
        ("preprocess: {limits: {max_channels: 0}}", "must be positive"),
        ("preprocess: {min_duration_s: 0.01}", "at least"),
        ("- a list", "not hold a mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "preprocess: {min_duration_s: 3}"))
    assert config.preprocess.min_duration_s == 3
    assert config.preprocess.silence_db == ServiceConfig().preprocess.silence_db


def test_the_environment_names_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "/models/other")
    assert load_config(DEFAULT).checkpoint_folder == Path("/models/other")


def test_a_relative_path_in_the_environment_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "models/mine")
    assert load_config(DEFAULT).checkpoint_folder == tmp_path / "models" / "mine"


def test_the_public_form_has_no_paths() -> None:
    public = str(ServiceConfig(checkpoint="/secret/place/model").to_public_dict())
    assert "/secret" not in public
    assert "'checkpoint': 'model'" in public


def test_live_settings_are_merged_and_checked() -> None:
    base = PostprocessConfig()
    merged = merge_config(base, {"review": {"min_confidence": 0.9}})
    assert merged.review.min_confidence == 0.9
    assert merged.review.min_margin == base.review.min_margin
    assert merge_config(base, {}) == base
    for bad in ({"revieww": {}}, {"review": {"min_konfidence": 1}}, {"review": 3}):
        with pytest.raises(ConfigError):
            merge_config(base, bad)


def test_strictness_reaches_every_level() -> None:
    with pytest.raises(ConfigError, match=r"max_channel: unknown key, did you mean 'max_channels'"):
        parse_strict(ServiceConfig, {"preprocess": {"limits": {"max_channel": 3}}}, "test")


@pytest.fixture
def serve_config(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setenv(CHECKPOINT_VARIABLE, str(tiny_checkpoint))
    content: dict[str, Any] = yaml.safe_load(SERVE.read_text())
    return content


def check(tmp_path: Path, content: object) -> list[str]:
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(content))
    return check_serve_config(path)


def test_the_shipped_file_is_fine(serve_config: dict[str, Any], tmp_path: Path) -> None:
    assert check(tmp_path, serve_config) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("aplications", [], "did you mean 'applications'"),
        ("http_options.prot", 80, "did you mean 'port'"),
        ("http_options.port", "many", "http_options.port"),
        ("applications.0.deployments.1.max_ongoing_request", 3, "'max_ongoing_requests'"),
        ("applications.0.deployments.1.ray_actor_options.num_gpu", 1, "'num_gpus'"),
        ("applications.0.deployments.0.backpressure_config.status", 429, "'status_code'"),
        ("applications.0.deployments.0.autoscaling_config", {"min_replica": 1}, "'min_replicas'"),
        ("applications.0.deployments.1.name", "Preproces", "did you mean 'Preprocess'"),
        ("applications.0.deployments.3.user_config", {"revieww": {}}, "revieww"),
        ("applications.0.import_path", "deployments.app:biuld", "must be deployments.app:build"),
        ("applications.0.deployments", ["Ingress"], "deployments"),
        ("applications.0.args.acelerator", "cpu", "acelerator"),
        ("applications.0.args.accelerator", "gpu", "accelerator"),
        ("applications.0.args.config", "configs/none.yaml", "none.yaml cannot be read"),
    ],
)
def test_typos_are_found(
    serve_config: dict[str, Any], tmp_path: Path, path: str, value: object, message: str
) -> None:
    node: Any = serve_config
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    node[last] = value
    problems = check(tmp_path, serve_config)
    assert any(message in problem for problem in problems), problems


def test_a_missing_checkpoint_is_found(
    serve_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINT_VARIABLE, str(tmp_path / "nowhere"))
    (problem,) = check(tmp_path, serve_config)
    assert "checkpoint 'nowhere' has no config.json" in problem


def test_further_models_are_found_and_no_two_have_one_name(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CHECKPOINT_VARIABLE, raising=False)
    path = tmp_path / "settings.yaml"
    path.write_text(
        f"checkpoint: {tiny_checkpoint}\nmodels: {{built: default, a.1: {tiny_checkpoint}}}"
    )
    monkeypatch.setenv("ACOUSTICSENSE_MODELS", f"env={tiny_checkpoint}")
    config = load_config(path)
    assert set(config.models) == {"built", "a.1", "env"}
    assert config.model_folder("built").name == "default"
    check_models(config)
    monkeypatch.setenv("ACOUSTICSENSE_MODELS", f"tiny={tiny_checkpoint}")
    with pytest.raises(ConfigError, match="'tiny', which is the name of the default model"):
        check_models(load_config(path))
    for wrong in ("tiny", "A=x", "a="):
        monkeypatch.setenv("ACOUSTICSENSE_MODELS", wrong)
        with pytest.raises(ConfigError, match="expected name=folder"):
            load_config(path)


def test_taxonomies_do_not_change_while_the_service_runs() -> None:
    with pytest.raises(ConfigError, match="taxonomies are read at the start"):
        merge_config(PostprocessConfig(), {"taxonomies": []})


def test_the_colocated_configuration_is_valid_and_known_by_its_own_names(tmp_path: Path) -> None:
    path = built_in(COLOCATED)
    assert check_serve_config(path) == []
    text = path.read_text().replace("name: Colocated", "name: Classify")
    wrong = tmp_path / "serve.yaml"
    wrong.write_text(text)
    (problem,) = check_serve_config(wrong)
    assert "unknown name 'Classify'" in problem
    assert "colocated are Ingress, Colocated" in problem
    wrong.write_text(text.replace("topology: colocated", "topology: together"))
    assert any("topology" in each for each in check_serve_config(wrong))
