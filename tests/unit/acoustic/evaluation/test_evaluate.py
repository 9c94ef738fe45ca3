"""Calibration and evaluation of a checkpoint, from folders of audio to report pages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VARIANTS
from acoustic.data.dataset import read_dataset
from acoustic.data.outliers import read_outliers
from acoustic.errors import ConfigError
from acoustic.evaluation import metrics, robustness
from acoustic.evaluation.baselines import hand_made_features, majority, svm
from acoustic.evaluation.corruptions import corruption_grid
from acoustic.evaluation.measure import measure, measure_outliers
from acoustic.evaluation.small_cnn import small_cnn
from acoustic.fitting import intervals
from acoustic.fitting.calibrate import (
    Calibrated,
    CalibrationConfig,
    apply_calibration,
    cross_fit,
    fit_calibration,
)
from acoustic.fitting.tracks import Tracks
from acoustic.labels import GENRES
from acoustic.postprocess.calibration import load_calibration
from acousticsense.cli.main import app
from benchmarks.claims import enhancement
from benchmarks.claims.page import write_claims
from benchmarks.claims.pictures import draw_claims
from benchmarks.claims.retest import Models, retest
from deployments.built_in import GUIDE_RULES, built_in
from deployments.config import load_rules
from tests.support.clips import BEATS, GENRES_MADE, N_FRAMES, NEITHER, NOTES, clip, write_manifest
from tests.support.models import TINY
from tests.support.sounds import encode, noise, tone

runner = CliRunner()
N_CLASSES = 4
NAMES = ("a", "b", "c", "d")


def made_tracks(n: int, temperature: float, seed: int = 0) -> Tracks:
    """Tracks whose logits ÷ temperature are calibrated: labels are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, N_CLASSES))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(N_CLASSES, p=row) for row in probabilities])
    stated = (logits * temperature).astype(np.float32)
    return Tracks(
        logits={
            count: [np.repeat(row[None], count, axis=0) for row in stated] for count in (1, 10)
        },
        labels=labels,
        sources=np.full(n, "made"),
        groups=np.array([f"g{i // 4}" for i in range(n)]),
        recordings=np.array([f"r{i}" for i in range(n)]),
    )


def test_the_fit_finds_the_temperature_and_what_follows_from_it() -> None:
    tracks = made_tracks(1500, temperature=2.0)
    fitted = fit_calibration(tracks, "digest", NAMES, CalibrationConfig(review_accuracy=0.8))
    assert fitted.at(10).temperature == pytest.approx(2.0, rel=0.1)
    fresh = made_tracks(3000, temperature=2.0, seed=1)
    found = apply_calibration(fresh, fitted, 10, 0.9)
    hit = found.sets[np.arange(3000), fresh.labels]
    correct = found.probabilities.argmax(axis=1) == fresh.labels
    assert hit.mean() == pytest.approx(0.9, abs=0.03)
    assert correct[found.accepted].mean() == pytest.approx(0.8, abs=0.03)


def test_cross_fitting_lets_no_track_calibrate_itself() -> None:
    tracks = made_tracks(200, temperature=1.0)
    plain = cross_fit(tracks, 10, 0.9, CalibrationConfig())
    flipped_group = tracks.groups == "g0"
    labels = np.where(flipped_group, (tracks.labels + 1) % N_CLASSES, tracks.labels)
    changed = replace(tracks, labels=labels)
    again = cross_fit(changed, 10, 0.9, CalibrationConfig())
    np.testing.assert_array_equal(
        again.probabilities[flipped_group], plain.probabilities[flipped_group]
    )
    assert not np.array_equal(again.probabilities, plain.probabilities)


def test_a_repeat_neither_calibrates_its_twin_nor_counts_twice() -> None:
    """Track 5 is the same recording as track 0, in another group."""
    tracks = made_tracks(200, temperature=1.0)
    recordings = tracks.recordings.copy()
    recordings[5] = recordings[0]
    twins = replace(tracks, recordings=recordings)
    unique = np.arange(200) != 5
    plain = cross_fit(twins, 10, 0.9, CalibrationConfig(), unique)
    labels = twins.labels.copy()
    labels[0] = (labels[0] + 1) % N_CLASSES
    again = cross_fit(replace(twins, labels=labels), 10, 0.9, CalibrationConfig(), unique)
    np.testing.assert_array_equal(again.probabilities[:8], plain.probabilities[:8])
    assert not np.array_equal(again.probabilities, plain.probabilities)
    labels = twins.labels.copy()
    labels[5] = (labels[5] + 1) % N_CLASSES
    unheard = cross_fit(replace(twins, labels=labels), 10, 0.9, CalibrationConfig(), unique)
    np.testing.assert_array_equal(unheard.probabilities, plain.probabilities)


def test_one_group_cannot_be_cross_fitted() -> None:
    tracks = made_tracks(40, temperature=1.0)
    one = replace(tracks, groups=np.full(40, "g"))
    with pytest.raises(ConfigError, match="all valid tracks are of one group"):
        cross_fit(one, 10, 0.9, CalibrationConfig())
    two = replace(tracks, groups=np.array(["a", "b"] * 20))
    assert len(cross_fit(two, 10, 0.5, CalibrationConfig()).accepted) == 40


def test_too_few_tracks_are_refused() -> None:
    with pytest.raises(ConfigError, match="12 valid tracks are too few: 20 are needed"):
        fit_calibration(made_tracks(12, 1.0), "digest", NAMES, CalibrationConfig())
    fitted = fit_calibration(made_tracks(30, 1.0), "digest", NAMES, CalibrationConfig())
    with pytest.raises(ConfigError, match=r"on 30 tracks does not support a coverage of 0\.99"):
        apply_calibration(made_tracks(30, 1.0), fitted, 10, 0.99)


def test_siblings_are_one_family() -> None:
    hip_hop, rap, jazz = (GENRES.index(name) for name in ("Hip-Hop", "Rap", "Jazz"))
    labels = np.array([hip_hop, rap, jazz] * 10)
    probabilities = np.full((30, 16), 0.01)
    probabilities[np.arange(30), np.array([rap, hip_hop, hip_hop] * 10)] = 0.85
    found = apply_like(probabilities)
    report = measure(found, labels, GENRES)
    assert report["accuracy"]["value"] == 0
    assert report["family_accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert set(report["per_genre"]) == {"Hip-Hop", "Rap", "Jazz"}
    assert set(report["per_family"]) == {"Hip-Hop & Rap", "Blues & Jazz"}
    assert report["per_family"]["Hip-Hop & Rap"]["merged_recall"]["value"] == 1.0
    assert report["per_family"]["Hip-Hop & Rap"]["recall"]["value"] == 0.0
    assert np.array(report["confusion"]).sum() == 30


def apply_like(probabilities: np.ndarray) -> Calibrated:
    return Calibrated(
        probabilities=probabilities,
        sets=probabilities > 0.5,
        accepted=np.ones(len(probabilities), bool),
    )


def test_outliers_are_told_from_music_by_uncertainty() -> None:
    sure = np.full((50, 4), 0.01) + np.eye(4)[np.arange(50) % 4] * 0.96
    unsure = np.full((20, 4), 0.25)
    rows = measure_outliers(sure, unsure, ["speech"] * 10 + ["rain"] * 10)
    assert [r["kind"] for r in rows] == ["all"] * 2 + ["rain"] * 2 + ["speech"] * 2
    assert all(r["auroc"]["value"] == 1.0 for r in rows)


def labelled(split: str, first_seed: int, n: int) -> list:
    return [clip(label, first_seed + i, split) for label in GENRES_MADE for i in range(n)]


def test_baselines_learn_what_can_be_learned() -> None:
    train, valid = labelled("train", 0, 8), labelled("valid", 50, 2)
    truth = [BEATS] * 2 + [NOTES] * 2 + [NEITHER] * 2
    assert majority([*train, clip(NOTES, 99)], valid).tolist() == [NOTES] * 6
    assert svm(train, valid).tolist() == truth
    cnn = small_cnn(
        train, valid, n_classes=16, n_frames=N_FRAMES, scaling=Scaling(), n_crops=384, n_windows=2
    )
    assert (cnn == truth).mean() > 0.6
    assert np.isfinite(hand_made_features(np.zeros((128, 200), np.uint8))).all()


# ---- the commands train, calibrate and evaluate, end to end


def make_music(root: Path) -> tuple[Path, Path]:
    """Write 24 train and 24 valid songs of two genres, and non-music sounds."""
    rows = []
    for i in range(48):
        genre, split = ("Jazz", "Metal")[i % 2], ("train", "valid")[i // 24]
        rows.append({"file": f"{i}.wav", "genre": genre, "split": split, "group": f"band {i // 2}"})
        sound = tone(300 + 10 * i, 7.0) if genre == "Jazz" else noise(7.0, level=0.3, seed=i)
        (root / "music").mkdir(parents=True, exist_ok=True)
        (root / "music" / f"{i}.wav").write_bytes(encode(sound, 22_050))
    write_manifest(root / "music", rows)
    (root / "sounds" / "clicks").mkdir(parents=True)
    for name in "abcdefghij":
        clicks = np.zeros(2 * 22_050, np.float32)
        clicks[:: 1000 + 100 * ord(name)] = 0.9
        (root / "sounds" / "clicks" / f"{name}.wav").write_bytes(encode(clicks, 22_050))
    return root / "music", root / "sounds"


def run(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_from_folders_to_a_report_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    monkeypatch.setattr(intervals, "N_BOOTSTRAP", 50)
    monkeypatch.setattr(metrics, "N_BOOTSTRAP", 50)
    grid = corruption_grid({})
    monkeypatch.setattr(
        robustness, "corruption_grid", lambda recordings: [grid[0], grid[4], grid[-1]]
    )
    music, sounds = make_music(tmp_path)
    out, report_folder = tmp_path / "model", tmp_path / "report"
    output = run(
        "train", music, "--out", out, "--not-music", sounds, "--variant", "tiny",
        "--crops", 960, "--name", "duo", "--threads", 1,
    )  # fmt: skip
    assert "100%  crops 960  loss" in output
    assert "valid accuracy" in output
    assert "acousticsense calibrate" in output

    output = run("calibrate", out, music, "--review-accuracy", 0.9, "--threads", 1)
    assert "calibrated on 24 tracks" in output
    calibration = load_calibration(CheckpointFolder.open(out))
    assert set(calibration.windows) == {1, 3, 10}
    assert set(calibration.at(10).quantiles) == {"lac", "aps", "raps"}
    assert calibration.review_accuracy == 0.9
    assert len(calibration.groups) == 12

    about = tmp_path / "about.md"
    about.write_text("Chords and clicks.")
    output = run(
        "evaluate", out, music, "--not-music", sounds, "--out", report_folder, "--card",
        "--cnn-crops", 96, "--fault-cases", 2, "--threads", 1, "--about", about,
    )  # fmt: skip
    report = json.loads((report_folder / "evaluation.json").read_text())
    assert report["cross_fitted"] is True
    assert report["sources"]["music"]["accuracy"]["value"] > 0.8
    assert report["sources"]["music"]["n_tracks"] == 24
    assert set(report["baselines"]) == {"majority", "SVM on hand-made features", "small CNN"}
    assert report["robustness"]["n_tracks"] == 24
    assert report["outliers"]
    page = (report_folder / "evaluation.md").read_text()
    for heading in (
        "Accuracy",
        "Calibration",
        "Detection of wrong answers",
        "Corrupted audio",
        "Reasons",
        "Effort auto",
    ):
        assert f"## {heading}" in page
    for picture in ("confusion", "reliability", "risk-coverage", "auto", "corruptions"):
        assert (report_folder / "evaluation" / f"{picture}.png").stat().st_size > 5_000
        assert f"evaluation/{picture}.png" in page
    card = (out / "README.md").read_text()
    assert card.startswith("# duo 1\n")
    assert "| Jazz | 12 |" in card
    assert "Chords and clicks." in card
    assert f"{report['checkpoint']['digest']}" in card
    assert "nan" not in card + page
    retest_claims(monkeypatch, out, music, sounds, report_folder)


def retest_claims(
    monkeypatch: pytest.MonkeyPatch, out: Path, music: Path, sounds: Path, folder: Path
) -> None:
    few = {name: enhancement.VARIANTS[name] for name in (enhancement.PLAIN, enhancement.GUIDE)}
    monkeypatch.setattr(enhancement, "VARIANTS", few)
    monkeypatch.setattr(enhancement, "SNR_DB", (0,))
    opened = CheckpointFolder.open(out)
    dataset = read_dataset([music], opened.mel, labels=opened.labels)
    outliers = read_outliers(sounds, opened.mel, "valid")
    report = retest(
        Models(folder=out, without_noise=out), dataset, outliers, load_rules(built_in(GUIDE_RULES))
    )
    assert any(c["technique"] == "enhancement: the guide's both (4.1)" for c in report["claims"])
    same = next(c for c in report["claims"] if c["technique"] == "instead: noise in training")
    assert same["effect"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert same["verdict"] == "inconclusive"
    page = write_claims(
        report, [f"claims/{name}" for name in draw_claims(report, folder / "claims")]
    )
    for heading in ("Verdicts", "Accuracy in noise", "Calibration", "Review policy"):
        assert f"## {heading}" in page
    for picture in ("review", "noise"):
        assert (folder / "claims" / f"{picture}.png").stat().st_size > 5_000
    assert "nan" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{music}", "--out", "{out}"], "has a checkpoint already"),
        (["train", "{music}", "--out", "{new}", "--variant", "vit_huge"], "unknown variant"),
        (["train", "{music}", "--out", "{new}", "--window-s", "90"], "limits are 0.7 to 30 s"),
        (["train", "{music}", "--out", "{new}", "--window-s", "2"], "80 frames, got 128 x 48"),
        (
            ["train", "{music}", "--out", "{new}", "--optimiser", "sgd"],
            "Invalid value for '--optimiser'",
        ),
        (
            ["train", "{music}", "--out", "{new}", "--from", "{out}", "--variant", "vit_tiny"],
            "with --from, variant and window are those of the checkpoint",
        ),
        (["calibrate", "{out}", "{music}", "--review-accuracy", "3"], "limits are 0 to 1"),
        (["calibrate", "{out}", "{music}"], "0 valid tracks are too few"),
        (["evaluate", "{out}", "{music}", "--out", "{new}"], "the valid split has no recordings"),
        (["evaluate", "{new}", "{music}", "--out", "{new}"], "has no config.json"),
        (
            ["evaluate", "{out}", "{music}", "--out", "{new}", "--coverage", "0.905"],
            "in steps of 0.01",
        ),
        (["evaluate", "{out}", "{music}", "--out", "{new}", "--about", "{here}"], "add --card"),
        (["evaluate", "{out}", "{music}", "--out", "{new}", "--claims"], "make claims"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, tiny_checkpoint: Path, arguments: list[str], message: str
) -> None:
    rows = [
        {"file": f"{i}.wav", "genre": g, "split": "train", "group": g}
        for i, g in enumerate(("Jazz", "Rock"))
    ]
    music = write_manifest(tmp_path / "music", rows).parent
    paths = {"music": music, "out": tiny_checkpoint, "new": tmp_path / "new"}
    paths["here"] = Path(__file__)
    result = runner.invoke(app, [argument.format(**paths) for argument in arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.lower().count("error:") == 1
