"""Verdicts on claims, the cost of further rounds, and fitted rules on knowledge and on noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from acoustic.errors import ConfigError
from acoustic.evaluation.measure import measure_auto
from acoustic.fitting.intervals import Interval
from acoustic.fitting.rule_fit import fit_rules
from acoustic.fitting.tracks import Tracks
from acoustic.labels import Label, LabelSet
from acoustic.postprocess.calibration import Calibration, WindowCalibration
from acoustic.postprocess.rules import Condition, Rule
from acoustic.types import Descriptors
from acousticsense.cli.main import app
from benchmarks.claims.verdicts import Claim, paired_effect
from deployments.config import load_rules
from tests.support.clips import write_manifest
from tests.support.models import DESCRIPTORS

LABELS = LabelSet([Label(name=name) for name in ("Slow", "Fast", "Other")])

CALIBRATION = Calibration(
    windows={n: WindowCalibration(temperature=1.0) for n in (3, 10)},
    checkpoint_digest="",
    dataset="",
    n_tracks=1,
    date="",
)


@pytest.mark.parametrize(
    ("claimed", "effect", "verdict"),
    [
        (0.1, (0.12, 0.05, 0.2), "reproduced"),
        (0.1, (0.3, 0.2, 0.4), "reproduced"),
        (0.1, (0.03, 0.01, 0.05), "supported"),
        (0.1, (0.0, -0.05, 0.05), "refuted"),
        (0.1, (-0.2, -0.3, -0.1), "refuted"),
        (0.1, (0.05, -0.05, 0.15), "inconclusive"),
        (None, (0.05, 0.01, 0.1), "supported"),
        (None, (-0.05, -0.1, -0.01), "refuted"),
        (None, (0.0, -0.1, 0.1), "inconclusive"),
    ],
)
def test_the_verdict(
    claimed: float | None, effect: tuple[float, float, float], verdict: str
) -> None:
    claim = Claim(
        technique="t", setting="s", unit="accuracy", claimed=claimed, effect=Interval(*effect)
    )
    assert claim.verdict == verdict


def test_effects_are_paired_over_tracks(rng: np.random.Generator) -> None:
    """Tracks differ much, but the change is the same for each: the interval has width 0."""
    before = rng.normal(0, 10, (50, 3))
    found = paired_effect(before + 0.1, before)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)


def tracks_of(logits: np.ndarray, labels: np.ndarray) -> Tracks:
    n = len(labels)
    return Tracks(
        logits={10: [row.astype(np.float32) for row in logits]},
        labels=labels,
        sources=np.full(n, "made"),
        groups=np.array([f"g{i}" for i in range(n)]),
        collections=np.full(n, "c"),
        unseen=np.zeros(n, bool),
        recordings=np.array([f"r{i}" for i in range(n)]),
    )


def test_auto_costs_what_it_hears(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, 300)
    truth = np.eye(3)[labels][:, None, :] * 1.0
    logits = truth + rng.normal(0, 1.5, (300, 10, 3))
    rows = measure_auto(tracks_of(logits, labels), CALIBRATION)
    windows = [row["windows"] for row in rows]
    assert windows == sorted(windows)
    assert (windows[0], windows[-1]) == (3.0, 10.0)
    accuracy = [row["accuracy"]["value"] for row in rows]
    assert accuracy[-1] > accuracy[0]
    middle = next(row for row in rows if row["margin"] == 0.5)
    assert middle["accuracy"]["value"] > (accuracy[0] + accuracy[-1]) / 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    whole = probabilities.mean(axis=1).argmax(axis=1)
    assert accuracy[-1] == pytest.approx(np.mean(whole == labels), abs=1e-4)


def knowledge(n: int, rng: np.random.Generator) -> tuple[Tracks, np.ndarray, list[Descriptors]]:
    """A model that cannot separate slow from fast, and tempi that are right in 75 % of cases."""
    labels = np.arange(n) % 2
    output = np.where(rng.random(n) < 0.75, labels, 1 - labels)
    descriptors = [replace(DESCRIPTORS, tempo_bpm=150.0 if fast else 80.0) for fast in output]
    probabilities = np.tile([0.45, 0.45, 0.1], (n, 1))
    return tracks_of(np.log(probabilities)[:, None], labels), probabilities, descriptors


RULE = Rule(
    name="fast", when=(Condition(feature="tempo_bpm", above=140),), genres=("fast",), log_odds=0.0
)


def test_a_rule_that_knows_something_is_found_and_enabled(rng: np.random.Generator) -> None:
    tracks, probabilities, descriptors = knowledge(200, rng)
    useless = replace(RULE, name="useless", when=(Condition(feature="vocal_proxy", above=0.1),))
    good, bad = fit_rules([RULE, useless], probabilities, tracks, descriptors, LABELS)
    assert good.rule.enabled
    assert good.rule.log_odds == pytest.approx(np.log(3), abs=0.4)
    assert 0 < good.low < good.gain < good.high
    assert not bad.rule.enabled


def test_a_rule_that_hardly_fires_is_not_judged(rng: np.random.Generator) -> None:
    tracks, probabilities, descriptors = knowledge(30, rng)
    (found,) = fit_rules([RULE], probabilities, tracks, descriptors, LABELS)
    assert found.n_fired < 20
    assert not found.rule.enabled


def test_what_a_spectrogram_does_not_tell_cannot_be_fitted(rng: np.random.Generator) -> None:
    tracks, probabilities, descriptors = knowledge(30, rng)
    rule = replace(RULE, when=(Condition(feature="rms_db", above=-10.0),))
    with pytest.raises(ConfigError, match="rms_db cannot be computed from a spectrogram"):
        fit_rules([rule], probabilities, tracks, descriptors, LABELS)


def test_the_command_writes_rules_that_can_be_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [
        {"file": f"{i}.wav", "genre": ("Jazz", "Rock")[i % 2], "split": "valid", "group": f"g{i}"}
        for i in range(28)
    ]
    music = write_manifest(tmp_path / "music", rows).parent
    out = tmp_path / "fitted.yaml"
    result = CliRunner().invoke(
        app, ["rules", "fit", str(tiny_checkpoint), str(music), "--out", str(out), "--threads", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "of 28 tracks" in result.output
    assert load_rules(out)[0].name == "fast with a strong beat"
