"""Non-music recordings: kinds from folders or a manifest, halves that stay as files are added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.data.outliers import Outlier, read_outliers, side_of
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from tests.support.properties import quick
from tests.support.sounds import encode, noise

MEL = MelConfig(n_mels=16, n_frames=20)


def write(path: Path, seed: int = 0, duration_s: float = 0.4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(noise(duration_s, seed=seed), 22_050))


def both_halves(folder: Path) -> dict[str, list[Outlier]]:
    return {split: read_outliers(folder, MEL, split) for split in ("train", "valid")}


def names_of_both_sides() -> list[str]:
    """Eight names of which each half has four."""
    chosen: dict[str, list[str]] = {"train": [], "valid": []}
    for i in range(100):
        name = f"{chr(97 + i % 26)}{chr(97 + i // 26)}x"
        chosen[side_of(name)].append(name)
    return [*chosen["train"][:4], *chosen["valid"][:4]]


def test_the_kind_is_the_folder_or_the_column(tmp_path: Path) -> None:
    names = names_of_both_sides()
    for i, name in enumerate(names):
        write(tmp_path / "folders" / ("speech" if i % 2 else "rain") / f"{name}.wav", i)
        write(tmp_path / "table" / f"{name}.wav", i)
        write(tmp_path / "flat" / f"{name}.wav", i)
    rows = [f"{name}.wav,{'speech' if i % 2 else ''}" for i, name in enumerate(names)]
    (tmp_path / "table" / "manifest.csv").write_text("\n".join(["file,kind", *rows]))
    for folder, kinds in (
        ("folders", {"rain", "speech"}),
        ("table", {"other", "speech"}),
        ("flat", {"other"}),
    ):
        for half in both_halves(tmp_path / folder).values():
            assert {outlier.kind for outlier in half} == kinds
            assert len(half) == 4


def test_a_short_sound_is_repeated_to_one_window(tmp_path: Path) -> None:
    for i, name in enumerate(names_of_both_sides()):
        write(tmp_path / f"{name}.wav", i, duration_s=0.3)
    for outlier in read_outliers(tmp_path, MEL, "train"):
        assert outlier.log_mel.shape == (16, 20)
        assert outlier.waveform.size == round(0.3 * 22_050)
        assert outlier.log_mel.max() == 255
        period = 1 + (outlier.waveform.size - 2048) // 915
        repeated = outlier.log_mel[:, period : 2 * period]
        np.testing.assert_array_equal(outlier.log_mel[:, :period], repeated)


@quick
@given(name=st.text(max_size=30))
def test_the_side_of_a_recording_follows_from_its_name_alone(name: str) -> None:
    assert side_of(name) == side_of(name)
    assert side_of(name) in ("train", "valid")


def test_each_half_has_about_half_of_many_recordings() -> None:
    sides = [side_of(f"{i}") for i in range(2000)]
    assert sides.count("train") == pytest.approx(1000, abs=90)  # 4 σ


def test_a_half_without_a_usable_recording_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = next(name for name in names_of_both_sides() if side_of(name) == "valid")
    (tmp_path / f"{name}.wav").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="no usable recording for the train half"):
        read_outliers(tmp_path, MEL, "train")
    with pytest.raises(ConfigError, match="no usable recording for the valid half"):
        read_outliers(tmp_path, MEL, "valid")
    assert f"skipped file={name}.wav" in caplog.text
