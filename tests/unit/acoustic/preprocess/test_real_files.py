"""Unusual, broken and hostile files of other projects; skipped where they are missing."""

from __future__ import annotations

import csv
import resource
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import InputError
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.types import TrackFeatures

MAX_GROWTH_MB = 300


GAPS = "audio-gaps"
"""An Ogg stream with missing pages: a fifth of its stated length is missing."""


def read_manifest(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "manifest.csv").read_text().splitlines()))


def outcome(preprocessor: Preprocessor, path: Path) -> TrackFeatures | InputError:
    try:
        return preprocessor.process(path.read_bytes(), "thorough")
    except InputError as error:
        return error


@pytest.mark.parametrize(("folder", "n_least"), [("formats", 100), ("corrupt", 200)])
def test_every_file_gives_audio_or_a_clean_error(
    data_folder: Path, folder: str, n_least: int
) -> None:
    preprocessor = Preprocessor(PreprocessConfig())
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = read_manifest(data_folder / folder)
    assert len(rows) >= n_least
    n_audio = 0
    for row in rows:
        result = outcome(preprocessor, data_folder / folder / row["file"])
        if isinstance(result, InputError):
            assert result.message
            continue
        n_audio += 1
        assert result.log_mel.max() == 255
        assert np.ptp(result.log_mel) > 0, f"blank answer for {row['file']}"
    assert n_audio >= 10
    growth_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert growth_mb < MAX_GROWTH_MB


def test_what_libsndfile_decodes_is_refused_only_for_a_stated_reason(data_folder: Path) -> None:
    preprocessor = Preprocessor(PreprocessConfig())
    fair = {"audio_too_short", "silent_audio"}
    for row in read_manifest(data_folder / "formats"):
        if row["decodes_with_libsndfile"] != "yes" or int(row["channels"]) > 32:
            continue
        if GAPS in row["file"]:
            continue
        result = outcome(preprocessor, data_folder / "formats" / row["file"])
        if isinstance(result, InputError) and 4000 <= int(row["sample_rate"]) <= 384_000:
            assert result.code in fair, f"{row['file']}: {result.message}"
