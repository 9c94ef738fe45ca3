"""Calibration and evaluation of a checkpoint, from folders of audio to report pages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.vit_config import VARIANTS
from acoustic.data.dataset import read_dataset
from acoustic.data.outliers import read_outliers
from acoustic.evaluation import metrics, robustness
from acoustic.evaluation.corruptions import corruption_grid
from acoustic.fitting import intervals
from acoustic.postprocess.calibration import load_calibration
from acousticsense.cli.main import app
from benchmarks.claims import enhancement
from benchmarks.claims.page import write_claims
from benchmarks.claims.pictures import draw_claims
from benchmarks.claims.retest import Models, retest
from deployments.built_in import GUIDE_RULES, built_in
from deployments.config import load_rules
from tests.support.clips import write_manifest
from tests.support.models import TINY
from tests.support.sounds import encode, noise, tone

runner = CliRunner()


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
    assert "24 valid tracks; calibration needs 20" in output
    assert "All 24 valid recordings are of collections that were trained on too" in output
    assert "calibrated on 24 valid tracks: music" in output
    output = run("calibrate", out, music, "--review-accuracy", 0.9, "--threads", 1)
    assert "calibrated on 24 valid tracks: music" in output
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
    assert report["collections"]["unseen"] is None
    assert report["collections"]["seen"]["n_tracks"] == 24
    assert set(report["baselines"]) == {"majority", "SVM on hand-made features", "small CNN"}
    assert report["robustness"]["n_tracks"] == 24
    assert report["outliers"]
    page = (report_folder / "evaluation.md").read_text()
    for heading in (
        "Music from anywhere",
        "Accuracy, by data set",
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
        (
            ["train", "{music}", "--out", "{new}", "--variant", "vit_nano", "--window-s", "90"],
            "limits are 0.7 to 30 s",
        ),
        (
            ["train", "{music}", "--out", "{new}", "--variant", "vit_nano", "--window-s", "2"],
            "80 frames, got 128 x 48",
        ),
        (
            ["train", "{music}", "--out", "{new}", "--optimiser", "sgd"],
            "Invalid value for '--optimiser'",
        ),
        (
            ["train", "{music}", "--out", "{new}", "--from", "{out}", "--variant", "vit_tiny"],
            "keeps its variant, window and trunk",
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
