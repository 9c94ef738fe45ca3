"""The trunk and the head on its maps: shapes, padding, independence of the batch, parity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from acoustic.classify import mobilenet
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.mobilenet import (
    EMBEDDING,
    Convolution,
    MobileNet,
    MobileNetStem,
    TagHead,
)
from acoustic.classify.trunk_windows import YAMNET as FRONT_END
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS, VitConfig
from acoustic.training.trunk import SCALING

HYBRID = replace(VARIANTS["vit_hybrid"], depth=1, width=64, heads=1)


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(HYBRID).eval()


def test_the_default_window_fits_the_trunk_and_three_of_them_the_inline_limit() -> None:
    assert (FRONT_END.n_mels, FRONT_END.n_frames) == (
        VARIANTS["vit_hybrid"].input_height,
        VARIANTS["vit_hybrid"].input_width,
    )
    assert 3 * FRONT_END.n_mels * FRONT_END.n_frames < 100 * 1024


def test_the_trunk_halves_five_times(model: VisionTransformer) -> None:
    maps = MobileNet()(torch.zeros(2, 1, 64, 480))
    assert maps.shape == (2, EMBEDDING, 2, 15)
    tokens = model.embed(torch.zeros(2, 1, 64, 480))
    assert tokens.shape == (2, HYBRID.n_patches, 64 + EMBEDDING)


def test_each_segment_is_convolved_by_itself() -> None:
    """As the trunk was trained: what comes before or after a segment changes none of its maps."""
    torch.manual_seed(0)
    trunk = MobileNet()
    x = torch.randn(2, 1, 64, 480)
    maps = trunk(x)
    for i in range(5):
        alone = trunk(x[..., 96 * i : 96 * (i + 1)])
        torch.testing.assert_close(maps[..., 3 * i : 3 * (i + 1)], alone)
    whole = MobileNet(segment_frames=None)
    whole.load_state_dict(trunk.state_dict())
    assert not torch.allclose(whole(x), maps, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_maps_of_a_window_do_not_depend_on_its_batch(n: int) -> None:
    """To the last digit: on some processors, other batch sizes are convolved by other kernels."""
    torch.manual_seed(0)
    trunk = MobileNet().eval()
    x = torch.randn(n, 1, 64, 480)
    sizes: list[int] = []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return MobileNet._convolved(trunk, x)

    trunk._convolved = recorded  # type: ignore[method-assign]
    with torch.inference_mode():
        assert torch.equal(trunk(x)[:1], trunk(x[:1]))
    assert sizes == (n + 1) * [5]


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_windows_are_joined_without_another_digit(n: int) -> None:
    torch.manual_seed(0)
    trunk = MobileNet().eval()
    x = torch.randn(n, 1, 64, 288)
    with torch.inference_mode():
        alone = trunk(x)
        trunk.join_windows(64, 288)
        assert torch.equal(trunk(x), alone)


@pytest.mark.parametrize(("error", "sizes"), [(0.0, [12, 9]), (1e-7, 7 * [3])])
def test_windows_are_joined_only_where_the_kernels_of_all_sizes_agree(
    error: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mobilenet, "_can_fuse", lambda dtype: True)
    trunk = MobileNet().eval()
    found: list[int] = []

    def convolved(x: torch.Tensor) -> torch.Tensor:
        found.append(len(x))
        maps = x.mean(dim=(1, 2, 3), keepdim=True).expand(-1, EMBEDDING, 2, 3)
        return maps + error * (len(x) == 9)  # another kernel, for three windows

    trunk._convolved = convolved  # type: ignore[method-assign]
    trunk.join_windows(64, 288)
    found.clear()
    with torch.inference_mode():
        trunk(torch.randn(7, 1, 64, 288))
    assert found == sizes


def test_segments_must_fit_the_window() -> None:
    with pytest.raises(ValueError, match="segment_frames is 96 with a mobilenet stem and 416"):
        replace(HYBRID, input_width=416)
    with pytest.raises(ValueError, match="needs a mobilenet stem"):
        VitConfig(segment_frames=48)
    with pytest.raises(ValueError, match="40, not a multiple of the patch size 32"):
        replace(HYBRID, segment_frames=40)


def test_a_convolution_of_stride_two_is_padded_on_the_far_sides() -> None:
    """TensorFlow's SAME padding: output i reads inputs 2 i, 2 i + 1 and 2 i + 2."""
    layer = Convolution(1, 1, 3, stride=2)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 0, 0] = 1.0
    assert layer(x)[0, 0].nonzero().tolist() == [[0, 0]]
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 2, 2] = 1.0
    assert layer(x)[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_log_odds_of_music_are_the_lead_of_music_in_the_head_of_kinds() -> None:
    torch.manual_seed(0)
    head = TagHead(4).eval()
    maps = torch.rand(2, EMBEDDING)
    probabilities = torch.softmax(head.kind(head.standard(head.features(maps))), dim=1)
    found = head.music(maps)
    torch.testing.assert_close(torch.sigmoid(found[:, 0]), probabilities[:, 1])


def test_the_model_is_the_mean_of_its_two_heads(model: VisionTransformer) -> None:
    x = torch.randn(3, 1, 64, 480)
    with torch.inference_mode():
        pooled = model.pool(model.embed(x))
        heads = model.logits_per_head(x, pooled)
        torch.testing.assert_close(model(x), (heads[0] + heads[1]) / 2)
        found = model.outputs(x)
        torch.testing.assert_close(found[:, :16], model(x))
        assert found.shape == (3, 16 + 64 + 1)
        assert model.tags is not None
        torch.testing.assert_close(found[:, -1:], model.tags.music(pooled[:, 64:]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_window_has_the_same_outputs_in_every_batch(precision: str) -> None:
    torch.manual_seed(1)
    engine = Engine(
        VisionTransformer(HYBRID).eval(), SCALING, (64, 480),
        EngineConfig(accelerator="cpu", precision=precision),  # type: ignore[arg-type]
    )  # fmt: skip
    windows = np.random.default_rng(0).integers(0, 256, (6, 64, 480), dtype=np.uint8)
    together = engine.outputs(windows)
    for i in range(6):
        alone = engine.outputs(windows[i : i + 1])
        np.testing.assert_allclose(alone.logits[0], together.logits[i], atol=1e-5)
        assert together.music is not None
        assert alone.music is not None
        np.testing.assert_allclose(alone.music[0], together.music[i], atol=1e-4)
    engine.close()


def test_another_patch_size_is_refused() -> None:
    with pytest.raises(ValueError, match="needs patch size 32, got 16"):
        MobileNetStem(64, 16)


@pytest.mark.filterwarnings("default::UserWarning")  # of the interpreter, about its memory
def test_the_converted_trunk_answers_as_the_file_it_comes_from(data_folder: Path) -> None:
    """Parity with TensorFlow Lite on its own log-mel, read out of the running model."""
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    from acoustic.training.trunk import read_trunk

    path = data_folder / "teachers" / "yamnet.tflite"
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 15_600).astype(np.float32)
    sound[5000:9000] += 0.3 * np.sin(np.arange(4000) * 0.17).astype(np.float32)
    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, sound[None])
    interpreter.invoke()
    named = {tuple(d["shape"]): d["index"] for d in interpreter.get_tensor_details()}
    log_mel = interpreter.get_tensor(named[1, 96, 64, 1]).reshape(96, 64)
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    model = VisionTransformer(HYBRID).eval()
    model.load_state_dict(read_trunk(path), strict=False)
    assert model.tags is not None
    with torch.inference_mode():
        stem = cast(MobileNetStem, model.patch_embed)
        maps = stem.maps(torch.from_numpy(log_mel.T[None, None].copy())).mean(dim=1)
        found = torch.sigmoid(model.tags._scores(maps))[0].numpy()
    assert np.abs(found - scores).max() < 0.01
    assert F.cosine_similarity(torch.from_numpy(found), torch.from_numpy(scores), dim=0) > 0.9997


def test_fused_convolutions_are_close_to_plain_ones_in_float32() -> None:
    torch.manual_seed(0)
    trunk = MobileNet().eval()
    x = torch.randn(2, 1, 64, 480)
    with torch.no_grad():
        expected = trunk(x)
    with torch.inference_mode():
        torch.testing.assert_close(trunk(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not mobilenet._HAS_FUSED_BF16, reason="a processor without bfloat16")
def test_fused_convolutions_have_the_digits_of_plain_ones() -> None:
    torch.manual_seed(0)
    trunk = MobileNet().to(torch.bfloat16).eval()
    for n in (1, 3):
        x = torch.randn(n, 1, 64, 96).to(torch.bfloat16)
        with torch.no_grad():
            expected = trunk(x)
        with torch.inference_mode():
            assert torch.equal(trunk(x), expected)
