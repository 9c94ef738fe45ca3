"""The model card: what it states of the checkpoint, its training and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from acoustic.checkpoint_folder import CheckpointFolder, Manifest
from acoustic.evaluation.card import N_CONFUSIONS, write_card
from acoustic.evaluation.tables import interval
from acoustic.postprocess.calibration import Calibration, WindowCalibration
from tests.support.reports import Report, made_report, sections, tables

TRAINING: dict[str, Any] = {
    "variant": "vit_tiny",
    "n_parameters": 1_234_567,
    "date": "2026-02-01",
    "cpu_minutes": 76.54,
    "recipe": {"batches": {"batch_size": 48}, "optimiser": {"name": "muon"}},
    "history": [{"n_crops": 960}, {"n_crops": 240_000}],
    "clips": {"Blues": {"folk_songs": 12}, "Jazz": {"folk_songs": 3, "city_songs": 45}},
    "n_outliers": 58,
}
CALIBRATION = Calibration(
    windows={
        1: WindowCalibration(temperature=0.8271),
        10: WindowCalibration(temperature=0.6847, review_threshold=0.458),
    },
    checkpoint_digest="0123456789ab",
    dataset="364 valid tracks: city_songs",
    n_tracks=364,
    date="2026-02-02",
    review_accuracy=0.83,
)


@pytest.fixture
def manifest(tiny_checkpoint: Path) -> Manifest:
    return CheckpointFolder.open(tiny_checkpoint).manifest


def card(manifest: Manifest, report: Report | None = None, about: str = "", **training: Any) -> str:
    return write_card(manifest, TRAINING | training, CALIBRATION, report or made_report(), about)


def test_the_introduction_names_the_model_and_its_training(manifest: Manifest) -> None:
    begin = sections(card(manifest))[""]
    assert begin.startswith(f"# {manifest.name} {manifest.version}\n")
    text = " ".join(begin.split())
    for fact in (
        "(vit_tiny, 1.23 million parameters)",
        f"into {len(manifest.labels)} music genres",
        f"windows of {manifest.mel.window_s:.2f} s",
        f"mono {manifest.mel.sample_rate} Hz, {manifest.mel.n_mels} mel bands",
        f"hop {manifest.mel.hop_length} samples, {manifest.mel.n_frames} frames",
        "Trained on 2026-02-01",
        "240,000 crops, batch 48, optimiser muon, 77 CPU minutes",
        f"`{manifest.digest}`",
    ):
        assert fact in text


def test_clips_are_counted_per_genre_and_source(manifest: Manifest) -> None:
    (counts,) = tables(sections(card(manifest))["Data"])
    assert counts[0] == ["genre", "city_songs", "folk_songs"]
    assert counts[2:] == [["Blues", "0", "12"], ["Jazz", "45", "3"]]


def test_the_text_about_the_data_is_taken_as_it_is(manifest: Manifest) -> None:
    about = "From *one* label & <others>.\n\nNo licence."
    data = sections(card(manifest, about=f"\n{about}\n\n"))["Data"]
    assert data.startswith(f"\n{about}\n\nTraining clips")
    assert sections(card(manifest))["Data"].startswith("\nTraining clips")


def test_non_music_audio_in_the_training_is_stated(manifest: Manifest) -> None:
    assert "58 recordings of non-music audio" in card(manifest)
    assert "No non-music audio was used" in card(manifest, n_outliers=0)


def test_the_accuracy_is_that_of_each_source(manifest: Manifest) -> None:
    report = made_report()
    *_, rows = tables(sections(card(manifest, report))["Accuracy"])
    for row, (name, part) in zip(rows[2:], report["sources"].items(), strict=True):
        measured = (
            part["accuracy"], part["own_genres"]["accuracy"], part["family_accuracy"],
            part["macro_f1"],
        )  # fmt: skip
        assert row == [name, str(part["n_tracks"]), *map(interval, measured)]


def test_the_card_begins_with_collections_that_were_not_trained_on(manifest: Manifest) -> None:
    report = made_report()
    section = sections(card(manifest, report))["Accuracy"]
    sides, genres, _ = tables(section)
    unseen = report["collections"]["unseen"]
    assert sides[0][1:] == ["collections unseen", "collections seen, artists unseen"]
    assert sides[3][1] == interval(unseen["accuracy"])
    row = unseen["per_genre"]["Jazz"]
    assert genres[3][:4] == [
        "Jazz",
        str(row["n"]),
        str(row["n_collections"]),
        interval(row["recall"]),
    ]
    report["collections"]["unseen"] = None
    sides, _ = tables(sections(card(manifest, report))["Accuracy"])
    assert sides[0][1:] == ["collections seen, artists unseen"]


def test_the_most_frequent_confusions_come_first(manifest: Manifest) -> None:
    (rows,) = tables(sections(card(manifest))["Known confusions"])
    assert rows[2:] == [
        ["Rock", "Jazz", "9 of 39"],
        ["Jazz", "Blues", "5 of 25"],
        ["Blues", "Jazz", "2 of 3"],
        ["Blues", "Rock", "1 of 3"],
    ]
    report = made_report()
    names = [f"g{i}" for i in range(5)]
    report["checkpoint"]["labels"] = names
    report["pooled"]["confusion"] = [[5 * i + j for j in range(5)] for i in range(5)]
    (rows,) = tables(sections(card(manifest, report))["Known confusions"])
    assert len(rows) == 2 + N_CONFUSIONS
    assert rows[2][:2] == ["g4", "g3"]


def test_the_calibration_is_listed_per_number_of_windows(manifest: Manifest) -> None:
    report = made_report()
    section = sections(card(manifest, report))["Calibration"]
    (rows,) = tables(section)
    assert rows[0][2] == "threshold for accuracy 0.83"
    assert rows[2:] == [["1", "0.8271", "–"], ["10", "0.6847", "0.458"]]
    ece = report["pooled"]["calibration"]
    text = " ".join(section.split())
    assert "Fitted by NLL on 364 valid tracks: city_songs, 2026-02-02." in text
    assert "None of it is known to be of a collection that was not trained on" in text
    assert f"tracks {ece['adaptive_ece']}, null band {ece['null_p95']}." in text
    assert "Cross-fitted adaptive ECE" in text
    assert "Cross-fitted" not in card(manifest, {**report, "cross_fitted": False})


def test_only_band_limits_and_codecs_tell_of_the_codec(manifest: Manifest) -> None:
    report = made_report()
    (rows,) = tables(sections(card(manifest, report))["Does it depend on the codec?"])
    assert [row[0] for row in rows[2:]] == ["clean", "MP3"]
    assert rows[3][2] == interval(report["robustness"]["rows"][1]["accuracy"])


def test_limits_name_the_separation_from_music_by_entropy(manifest: Manifest) -> None:
    report = made_report()
    text = " ".join(sections(card(manifest, report))["Limits"].split())
    auroc = interval(report["outliers"][0]["auroc"])
    assert f"- Separated from music by entropy: speech sounds with AUROC {auroc}." in text
    assert "confidence" not in text


def test_what_was_not_measured_is_left_out(manifest: Manifest) -> None:
    report = made_report()
    del report["robustness"], report["outliers"]
    whole, found = sections(card(manifest)), sections(card(manifest, report))
    assert whole.keys() - found.keys() == {"Does it depend on the codec?"}
    assert "Separated" not in found["Limits"]
    assert "\n\n\n" not in card(manifest) + card(manifest, report)


def test_a_training_without_a_field_is_an_error(manifest: Manifest) -> None:
    training = {name: value for name, value in TRAINING.items() if name != "date"}
    with pytest.raises(UndefinedError, match="date"):
        write_card(manifest, training, CALIBRATION, made_report())
