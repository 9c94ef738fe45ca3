"""Backends that translate the model: they agree with eager, or they are refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify import backends
from acoustic.classify.backends import ExecutionPlan, prepare
from acoustic.classify.checkpoint import load_checkpoint, save_checkpoint
from acoustic.classify.engine import Engine, plan_execution
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.mobilenet import TagHead
from acoustic.classify.normalise import Scaling
from acoustic.classify.onnx_export import export_onnx
from acoustic.classify.trunk_windows import YAMNET
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS
from acoustic.errors import ConfigError
from acoustic.labels import GENRES
from acoustic.training.trunk import SCALING
from tests.support.models import tiny_model

HYBRID = replace(VARIANTS["vit_hybrid"], depth=1, width=64, heads=1)
TWO_TRUNKS = replace(VARIANTS["vit_hybrid_musicnn"], depth=1, width=64, heads=1)
FP32 = EngineConfig(accelerator="cpu", precision="fp32", backend="eager")
OPENVINO = replace(FP32, backend="openvino")


def hybrid() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(HYBRID).eval()


def two_trunks() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(TWO_TRUNKS).eval()


MODELS = {
    "vit": (tiny_model, (128, 144)),
    "hybrid": (hybrid, (64, 480)),
    "two trunks": (two_trunks, (160, 288)),
}


def engine(kind: str, config: EngineConfig) -> Engine:
    make, shape = MODELS[kind]
    return Engine(make(), Scaling(), shape, config)


def windows(kind: str, n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *MODELS[kind][1])).astype(np.uint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODELS)
def test_openvino_gives_the_answers_of_eager_for_any_number_of_windows(kind: str) -> None:
    pytest.importorskip("openvino")
    exact, found = engine(kind, FP32), engine(kind, OPENVINO)
    for n in (1, 2, 5, 11):
        expected, outputs = exact.outputs(windows(kind, n)), found.outputs(windows(kind, n))
        np.testing.assert_allclose(outputs.logits, expected.logits, atol=2e-2)
        np.testing.assert_allclose(outputs.features, expected.features, atol=2e-3)
        # the same window alone
        alone = found.outputs(windows(kind, n)[-1:]).logits
        np.testing.assert_allclose(alone, outputs.logits[-1:], atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_traced_model_is_kept_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    config = replace(OPENVINO, compile_cache=str(tmp_path / "new"))
    first = engine("vit", config).logits(windows("vit", 2))
    assert list((tmp_path / "new").glob("*.xml"))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(openvino, "convert_model", refuse)
    np.testing.assert_array_equal(engine("vit", config).logits(windows("vit", 2)), first)


@pytest.mark.filterwarnings("ignore")
def test_a_backend_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a trace that kept the number of rows of its example."""
    converted = backends._converted

    def wrong_for_one(model: VisionTransformer, *rest: Any) -> Any:
        run = converted(model, *rest)
        return lambda x: run(x) if len(x) > 1 else run(x.flip(2))

    pytest.importorskip("openvino")
    monkeypatch.setattr(backends, "_converted", wrong_for_one)
    with pytest.raises(ConfigError, match=r"probabilities differ by 0\.\d+, limit is 0\.02"):
        engine("vit", OPENVINO)


def test_numbers_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        backends, "_converted", lambda *_: lambda x: torch.full((len(x), 80), torch.nan)
    )
    plan = ExecutionPlan(device="cpu", precision="fp32", backend="openvino")
    probe = torch.rand(2, 1, 128, 144)
    with pytest.raises(ConfigError, match="differ by nan"):
        prepare(tiny_model(), plan, OPENVINO, 1, probe)


@pytest.mark.parametrize(
    ("package", "backend"),
    [("openvino", "openvino"), ("torch_tensorrt", "tensorrt")],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, backend: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    plan = ExecutionPlan(device="cpu", precision="fp32", backend=backend)
    with pytest.raises(ConfigError, match=rf"acousticsense\[{backend}\]"):
        prepare(tiny_model(), plan, FP32, 1, torch.rand(2, 1, 128, 144))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EngineConfig(accelerator="cpu", backend="tensorrt"), "tensorrt runs on cuda, not on cpu"),
        (EngineConfig(accelerator="cpu", precision="int8", backend="compile"), "int8 is for a CPU"),
    ],
)
def test_a_backend_on_the_wrong_device_is_refused(config: EngineConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_execution(config)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_int8_is_near_eager() -> None:
    exact, found = engine("vit", FP32), engine("vit", replace(FP32, precision="int8"))
    assert found.plan.precision == "int8"
    x = windows("vit", 6)
    np.testing.assert_allclose(found.outputs(x).features, exact.outputs(x).features, atol=0.15)
    assert not np.array_equal(found.logits(x), exact.logits(x))


@pytest.mark.filterwarnings("ignore")
def test_an_exported_trunk_takes_scores_that_no_music_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log probabilities of classes that are out of the question, as real music has them."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = hybrid()
    tags = cast(TagHead, model.tags)
    torch.nn.init.constant_(tags.audioset.bias, -40.0)
    torch.nn.init.constant_(tags.standard.get_buffer("deviation"), 20.0)
    torch.nn.init.normal_(tags.head.weight, std=0.1)
    save_checkpoint(
        tmp_path / "trunk", name="trunk", version="0", model=model, labels=GENRES, mel=YAMNET,
        scaling=SCALING,
    )  # fmt: skip
    checkpoint = load_checkpoint(CheckpointFolder.open(tmp_path / "trunk"))
    path, music = tmp_path / "model.onnx", windows("hybrid", 2)
    assert export_onnx(checkpoint, path, music) < 1e-4
    logits = runtime.InferenceSession(str(path)).run(["logits"], {"windows": music})[0]
    with torch.inference_mode():
        expected = checkpoint.model(checkpoint.scaling.apply(torch.from_numpy(music)))
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-3, rtol=0)

    def other(difference: object, *arguments: object) -> float:
        return float("nan")

    monkeypatch.setattr("acoustic.classify.onnx_export.probability_difference", other)
    with pytest.raises(ConfigError, match=r"differ by nan, limit is 0\.001; nothing"):
        export_onnx(checkpoint, tmp_path / "other.onnx", music)
    assert not [*tmp_path.glob("*other*"), *tmp_path.glob(".*")]


def _softmax(logits: np.ndarray) -> Tensor:
    return torch.softmax(torch.from_numpy(logits), dim=1)


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_answers_as_the_model_does(tiny_checkpoint: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = CheckpointFolder.open(tiny_checkpoint)
    path = tmp_path / "model.onnx"
    assert export_onnx(load_checkpoint(folder), path) < 1e-3
    session = runtime.InferenceSession(str(path))
    checkpoint = load_checkpoint(folder)
    mel = checkpoint.manifest.mel
    exact = Engine(
        checkpoint.model, checkpoint.scaling, (mel.n_mels, mel.n_frames), FP32, checkpoint.styles
    )
    for n in (1, 7):
        x = windows("vit", n)
        logits, features = session.run(["logits", "features"], {"windows": x})
        torch.testing.assert_close(_softmax(logits), _softmax(exact.logits(x)), atol=1e-3, rtol=0)
        np.testing.assert_allclose(features, exact.outputs(x).features, atol=1e-3)
