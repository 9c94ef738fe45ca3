"""Accuracy under corruption: rejected files count as wrong; summaries by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from acoustic.data.outliers import Outlier
from acoustic.errors import SilentAudioError
from acoustic.evaluation import robustness
from acoustic.evaluation.corruptions import Corruption, Samples, corruption_grid, to_wav
from acoustic.evaluation.robustness import _summaries, measure_robustness
from acoustic.labels import GENRES
from tests.support.clips import BEATS, NOTES, clip, write_song


class FakePipeline:
    """Answers Classical for loud files, Disco for quiet ones, and rejects silence."""

    preprocessor = SimpleNamespace(config=SimpleNamespace(mel=SimpleNamespace(sample_rate=22_050)))
    postprocessor = SimpleNamespace(labels=GENRES)

    def classify(self, data: bytes) -> SimpleNamespace:
        level = float(np.abs(np.frombuffer(data[44:], "<i2")).max())
        if level == 0:
            raise SilentAudioError("silent")
        genre = GENRES.names[BEATS if level > 5_000 else NOTES]
        return SimpleNamespace(predictions=[SimpleNamespace(genre=genre)])


def scaled(kind: str, factor: float) -> Corruption:
    def apply(x: Samples, rate: int, rng: np.random.Generator) -> bytes:
        return to_wav((x * factor).astype(np.float32), rate)

    return Corruption(kind=kind, strength="5 dB" if kind.endswith("noise") else "", apply=apply)


def test_each_corruption_has_its_accuracy_and_its_rejected_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = [scaled("clean", 1.0), scaled("white noise", 0.1), scaled("gain", 0.0)]
    monkeypatch.setattr(robustness, "corruption_grid", lambda recordings: grid)
    clips = []
    for i, label in enumerate((BEATS, BEATS, NOTES, BEATS)):
        write_song(tmp_path / f"{i}.wav", i, duration_s=0.5)
        clips.append(replace(clip(label, i), path=tmp_path / f"{i}.wav"))
    stored_only = clip(BEATS, 9)
    found = measure_robustness(FakePipeline(), [*clips, stored_only], [])  # type: ignore[arg-type]
    assert found["n_tracks"] == 4
    rows = {row["kind"]: row for row in found["rows"]}
    assert {kind: row["accuracy"]["value"] for kind, row in rows.items()} == {
        "clean": 0.75, "white noise": 0.25, "gain": 0.0,
    }  # fmt: skip
    assert {kind: row["refused"] for kind, row in rows.items()} == {
        "clean": 0, "white noise": 0, "gain": 4,
    }  # fmt: skip
    assert found["loud_noise_accuracy"] == 0.25
    assert found["relative_robustness"] == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize(("n", "is_used"), [(4, False), (5, True)])
def test_a_kind_of_noise_needs_five_recordings(
    n: int, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def grid(recordings: dict[str, list[Samples]]) -> list[Corruption]:
        seen.update(recordings)
        return corruption_grid({})[:6]

    monkeypatch.setattr(robustness, "corruption_grid", grid)
    monkeypatch.setattr(robustness, "_row", lambda corruption, *rest: row(corruption, 0.5))
    outliers = [
        Outlier(waveform=np.zeros(9, np.float32), log_mel=np.zeros((1, 1), np.uint8), kind="rain")
    ] * n
    measure_robustness(FakePipeline(), [], outliers)  # type: ignore[arg-type]
    assert ("rain" in seen) == is_used


def row(corruption: Corruption, accuracy: float) -> dict[str, object]:
    kind, strength = corruption.kind, corruption.strength
    return {"kind": kind, "strength": strength, "accuracy": {"value": accuracy}}


def test_the_summaries_take_the_noise_at_their_own_levels() -> None:
    values = {20: 0.8, 10: 0.6, 5: 0.4, 0: 0.2, -5: 0.1}
    rows = [
        {"kind": "clean", "strength": "", "accuracy": {"value": 0.8}},
        *(
            {"kind": "white noise", "strength": f"{db} dB", "accuracy": {"value": value}}
            for db, value in values.items()
        ),
        {"kind": "gain", "strength": "-20 dB", "accuracy": {"value": 0.0}},
    ]
    found = _summaries(rows)
    assert found["loud_noise_accuracy"] == pytest.approx((0.4 + 0.2 + 0.1) / 3, abs=1e-4)
    assert found["relative_robustness"] == pytest.approx((0.8 + 0.6 + 0.4 + 0.2) / 4 / 0.8)
    rows[0] = {"kind": "clean", "strength": "", "accuracy": {"value": 0.0}}
    assert _summaries(rows)["relative_robustness"] == 0.0
