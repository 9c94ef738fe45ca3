"""The second trunk: parity with its TensorFlow graph, its inputs, and its place in the model."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint, save_checkpoint
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.mobilenet import (
    EMBEDDING,
    MUSIC_CLASSES,
    SECOND_FACTOR,
    MobileNetStem,
    Standardise,
    TagHead,
)
from acoustic.classify.musicnn import (
    N_CHANNELS,
    N_DENSE,
    N_FEATURES,
    N_MIDDLE,
    N_TAGS,
    PEAK,
    POWER_GAIN,
    TEMPORAL,
    TIMBRAL,
    Musicnn,
    musicnn_input,
)
from acoustic.classify.trunk_windows import BOTH, YAMNET, YamnetInput
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS, VitConfig
from acoustic.errors import CheckpointError, ConfigError
from acoustic.labels import GENRES
from acoustic.preprocess.mel import SECOND_GAIN, MelSpectrogram, model_values
from acoustic.training import read_musicnn
from acoustic.training.read_musicnn import EPSILON, convert
from acoustic.training.trunk import BOTH_SCALING, SCALING, read_second_trunk
from tests.support.sounds import noise, tone

SMALL = replace(VARIANTS["vit_hybrid_musicnn"], depth=1, width=64, heads=1)
N_FRAMES = 60

MADE = {
    "chord": sum(tone(hz, 4.0, 16_000, level=0.1) for hz in (220, 277, 330, 880, 2_500))
    + noise(4.0, 16_000, level=1e-3),
    "noise": noise(4.0, 16_000),
}

Graph = dict[str, np.ndarray]


def graph(seed: int = 0) -> Graph:
    """Variables of the TensorFlow graph, random, under their names there."""
    rng = np.random.default_rng(seed)
    shapes = [(7, bands, 1, n) for n, bands in TIMBRAL]
    shapes += [(frames, 1, 1, n) for n, frames in TEMPORAL]
    n_in = sum(shape[3] for shape in shapes)
    shapes += [(7, n_in, 1, N_MIDDLE), (7, N_MIDDLE, 1, N_MIDDLE), (7, N_MIDDLE, 1, N_MIDDLE)]
    found: Graph = {}
    for i, shape in enumerate(shapes):
        name = f"conv2d_{i}" if i else "conv2d"
        found[f"{name}/kernel"] = rng.normal(size=shape) / np.sqrt(np.prod(shape[:3]))
        found[f"{name}/bias"] = rng.normal(size=shape[3]) / 4
    widths = [1, *(shape[3] for shape in shapes), 2 * N_CHANNELS, N_DENSE]
    for i, width in enumerate(widths):
        name = f"batch_normalization_{i}" if i else "batch_normalization"
        found[f"{name}/gamma"] = rng.normal(size=width)  # of both signs
        found[f"{name}/beta"] = rng.normal(size=width)
        found[f"{name}/moving_mean"] = rng.normal(size=width)
        found[f"{name}/moving_variance"] = rng.uniform(0.5, 2, size=width)
    for name, n_rows, n_columns in (
        ("dense", 2 * N_CHANNELS, N_DENSE),
        ("dense_1", N_DENSE, N_TAGS),
    ):
        found[f"{name}/kernel"] = rng.normal(size=(n_rows, n_columns)) / np.sqrt(n_rows)
        found[f"{name}/bias"] = rng.normal(size=n_columns)
    return {name: x.astype(np.float32) for name, x in found.items()}


def reference(variables: Graph, x_NUM: Tensor) -> tuple[Tensor, Tensor]:
    """The dense layer before its batch norm, and log-odds of the tags, step by step."""
    v = {name: torch.from_numpy(x) for name, x in variables.items()}

    def norm(x: Tensor, number: int) -> Tensor:
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        shape = [1, -1] + [1] * (x.ndim - 2)
        mean, variance, gamma, beta = (
            v[f"{name}/{each}"].reshape(shape)
            for each in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return (x - mean) / (variance + EPSILON).sqrt() * gamma + beta

    x = norm(x_NUM[:, None], 0)  # (N, 1, U, M)
    parts = []
    for i in range(len(TIMBRAL) + len(TEMPORAL)):
        name = f"conv2d_{i}" if i else "conv2d"
        kernel = v[f"{name}/kernel"].permute(3, 2, 0, 1)
        before = (kernel.shape[2] - 1) // 2
        padded = F.pad(x, (0, 0, before, kernel.shape[2] - 1 - before))
        found = norm(F.relu(F.conv2d(padded, kernel, v[f"{name}/bias"])), i + 1)
        bands = 4 if i < len(TIMBRAL) else 2  # from one place of a filter to the next
        parts.append(found[..., ::bands].amax(dim=3))
    first = torch.cat(parts, dim=1)
    channels = [first]
    for i in range(3):
        number = len(parts) + i
        kernel = v[f"conv2d_{number}/kernel"][:, :, 0].permute(2, 1, 0)
        found = F.conv1d(F.pad(channels[-1], (3, 3)), kernel, v[f"conv2d_{number}/bias"])
        found = norm(F.relu(found), number + 1)
        channels.append(found + channels[-1] if i else found)
    every = torch.cat(channels, dim=1)
    mean, largest = every.mean(dim=2), every.amax(dim=2)
    flat = norm(torch.stack([largest, mean], dim=2).flatten(1), 9)
    dense = F.relu(flat @ v["dense/kernel"] + v["dense/bias"])
    return dense, norm(dense, 10) @ v["dense_1/kernel"] + v["dense_1/bias"]


def trunk_of(variables: Graph) -> Musicnn:
    trunk = Musicnn().eval()
    state = {name: torch.from_numpy(x) for name, x in convert(variables.__getitem__).items()}
    trunk.load_state_dict(state)
    return trunk


def test_the_converted_trunk_computes_what_the_graph_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = graph()
    trunk = trunk_of(variables)
    x = torch.rand(3, N_FRAMES, 96, generator=torch.Generator().manual_seed(1)) * 4
    monkeypatch.setattr("acoustic.classify.musicnn.musicnn_input", lambda each: each)
    with torch.inference_mode():
        found = trunk(x.transpose(1, 2)[:, None])
        dense, tags = reference(variables, x)
    assert found.shape == (3, N_FEATURES)
    np.testing.assert_allclose(found[:, :N_DENSE], dense, atol=1e-3)
    np.testing.assert_allclose(found[:, N_DENSE:], tags, atol=2e-3)


def test_windows_become_the_input_that_the_trunk_was_trained_on() -> None:
    """Frames 10 ms apart to 16 ms; a level that rises evenly keeps rising evenly."""
    x = torch.linspace(-5, 2, 288).expand(2, 1, BOTH.n_mels, 288).clone()
    x[:, :, :64] = 9.0  # the rows of the first trunk
    found = musicnn_input(x)
    assert found.shape == (2, 1, 96, 179)
    power = (10 ** found[0, 0, 40].double() - 1) / (1e4 * POWER_GAIN)
    level = -5 + 7 / 287 * 1.6 * torch.arange(179)
    expected = torch.exp(2 * (level - level.max() + PEAK))
    torch.testing.assert_close(power, expected.double(), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("sound", MADE)
def test_each_trunk_gets_its_own_spectrogram(sound: str) -> None:
    """Both stand one above the other in a window, and are what they are alone."""
    waveform = MADE[sound][: BOTH.window_samples]
    both, first = MelSpectrogram(BOTH), MelSpectrogram(replace(YAMNET, n_frames=288))
    second = MelSpectrogram(replace(YAMNET, n_mels=96, f_min=0.0, f_max=8_000.0, bands="slaney"))
    power = both.power(waveform)
    np.testing.assert_allclose(power[:64], first.power(waveform), rtol=1e-5)
    np.testing.assert_allclose(power[64:], second.power(waveform) * SECOND_GAIN, rtol=1e-5)
    windows = [
        torch.from_numpy(model_values(each, each.power(waveform))[None]) for each in (both, first)
    ]
    with torch.inference_mode():
        found = YamnetInput()(BOTH_SCALING.apply(windows[0]))
        expected = SCALING.apply(windows[1])
    assert found.shape == expected.shape == (1, 1, 64, 288)
    # steps of uint8, and what lies below the floor of the louder of both
    assert (found - expected).square().mean().sqrt() < 0.06


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    torch.manual_seed(0)
    made = VisionTransformer(SMALL).eval()
    stem = cast(MobileNetStem, made.patch_embed)
    stem.musicnn = trunk_of(graph())
    torch.nn.init.normal_(cast(TagHead, made.tags).head.weight, std=0.01)
    return made


def windows(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, BOTH.n_mels, 288)).astype(np.uint8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_window_has_the_same_digits_alone_and_among_others(
    model: VisionTransformer, precision: str, tmp_path: Path
) -> None:
    own = VisionTransformer(SMALL).eval()
    own.load_state_dict(model.state_dict())
    config = EngineConfig(accelerator="cpu", precision=precision, backend="eager")
    engine = Engine(own, BOTH_SCALING, (BOTH.n_mels, 288), config)
    x = windows(4)
    together = engine.outputs(x)
    for i in range(len(x)):
        alone = engine.outputs(x[i : i + 1])
        np.testing.assert_array_equal(alone.logits[0], together.logits[i])
        np.testing.assert_array_equal(alone.features[0], together.features[i])
    assert not np.array_equal(together.logits[0], together.logits[1])


def test_both_trunks_stand_behind_each_patch(model: VisionTransformer) -> None:
    x = BOTH_SCALING.apply(torch.from_numpy(windows(2)))
    stem = cast(MobileNetStem, model.patch_embed)
    with torch.inference_mode():
        maps = stem.maps(x)
        second = cast(Musicnn, stem.musicnn)(x)
        features = cast(TagHead, model.tags).features(maps.mean(dim=1))
    assert maps.shape == (2, SMALL.n_patches, EMBEDDING + N_FEATURES)
    for i in range(SMALL.n_patches):
        torch.testing.assert_close(maps[:, i, EMBEDDING:], second, rtol=0, atol=0)
    assert features.shape == (2, EMBEDDING + len(MUSIC_CLASSES) + N_FEATURES)
    torch.testing.assert_close(features[:, -N_FEATURES:], second)


def test_features_of_the_second_trunk_count_more_and_are_clamped_before() -> None:
    found = Standardise(5, 2)(torch.tensor([[1.0, -2.0, 9.0, 1.0, -9.0]]))
    expected = [1.0, -2.0, 5.0, SECOND_FACTOR, -5 * SECOND_FACTOR]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_the_second_trunk_has_no_say_in_what_is_music(model: VisionTransformer) -> None:
    tags = cast(TagHead, model.tags)
    torch.nn.init.normal_(tags.kind.weight)
    maps = torch.rand(2, EMBEDDING + N_FEATURES)
    other = torch.cat([maps[:, :EMBEDDING], torch.rand(2, N_FEATURES)], dim=1)
    torch.testing.assert_close(tags.music(maps), tags.music(other), rtol=0, atol=0)
    assert not torch.equal(tags(maps), tags(other))


def test_a_stored_model_answers_the_same(model: VisionTransformer, tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path, name="two", version="1", model=model, labels=GENRES, mel=BOTH,
        scaling=BOTH_SCALING,
    )  # fmt: skip
    again = load_checkpoint(CheckpointFolder.open(tmp_path)).model
    x = BOTH_SCALING.apply(torch.from_numpy(windows(1)))
    with torch.inference_mode():
        torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_a_checkpoint_without_a_second_trunk_says_so(tmp_path: Path) -> None:
    one = VisionTransformer(replace(VARIANTS["vit_hybrid"], depth=0, width=64, heads=1))
    save_checkpoint(
        tmp_path, name="one", version="1", model=one, labels=GENRES, mel=YAMNET, scaling=SCALING
    )
    with pytest.raises(CheckpointError, match="has no second trunk: only a vit_hybrid_musicnn"):
        read_second_trunk(tmp_path)


def test_files_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".index").touch()
    variables = {**graph(), "conv2d/kernel": np.zeros((7, 38, 1, 3), np.float32)}
    monkeypatch.setattr(read_musicnn, "_reader", lambda folder: variables.__getitem__)
    with pytest.raises(CheckpointError, match="is not MSD_musicnn"):
        read_second_trunk(tmp_path)
    monkeypatch.setattr(read_musicnn, "_reader", lambda folder: {}.__getitem__)
    with pytest.raises(CheckpointError, match="is not MSD_musicnn"):
        read_second_trunk(tmp_path)


def test_without_tensorflow_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".index").touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match="pip install tensorflow-cpu, or take the second trunk"):
        read_second_trunk(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"stem": "linear", "segment_frames": None}, {"input_height": 64}]
)
def test_it_needs_the_first_trunk_and_both_spectrograms(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="musicnn needs a mobilenet stem and 160 bands"):
        replace(SMALL, **changes)


def test_the_first_trunk_has_as_many_patches_as_its_own_bands_give() -> None:
    assert VitConfig(**{k: getattr(SMALL, k) for k in SMALL.__slots__}).n_patches == 18
