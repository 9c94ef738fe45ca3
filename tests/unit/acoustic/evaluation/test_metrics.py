"""Metrics against closed forms, scikit-learn, and simulated labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from acoustic.evaluation.metrics import (
    accuracy_at_coverage,
    aurc,
    auroc,
    brier,
    confusion,
    ece_null_p95,
    error_auroc,
    macro_f1,
    risk_coverage,
)
from acoustic.fitting.intervals import bootstrap
from acoustic.fitting.scores import adaptive_ece
from acoustic.fitting.temperature import fit_floor, review_threshold
from acoustic.postprocess.conformal import (
    RAPS_PENALTY,
    SET_METHODS,
    SetMethod,
    conformal_quantile,
    fit_quantiles,
    nonconformity,
    prediction_sets,
    true_scores,
)

N_CLASSES = 5


def simulated(
    rng: np.random.Generator, n: int, sharpening: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Stated probabilities and labels; sharpening above 1 makes them over-confident."""
    truth = rng.dirichlet(np.full(N_CLASSES, 0.5), n)
    # Labels follow `truth`, so the stated probabilities are calibrated only if sharpening is 1.
    labels = np.array([rng.choice(N_CLASSES, p=row) for row in truth])
    stated = truth**sharpening + 1e-9
    return stated / stated.sum(axis=1, keepdims=True), labels


def test_against_scikit_learn(rng: np.random.Generator) -> None:
    probabilities, labels = simulated(rng, 300)
    predicted = probabilities.argmax(axis=1)
    one_hot = np.eye(N_CLASSES)[labels]
    assert confusion(predicted, labels, N_CLASSES).tolist() == (
        reference.confusion_matrix(labels, predicted).tolist()
    )
    assert macro_f1(predicted, labels) == pytest.approx(
        reference.f1_score(labels, predicted, average="macro")
    )
    assert brier(probabilities, labels) == pytest.approx(
        ((probabilities - one_hot) ** 2).sum(axis=1).mean()
    )
    scores = np.round(probabilities.max(axis=1), 1)  # rounded, so that there are ties
    correct = predicted == labels
    assert error_auroc(scores, correct) == pytest.approx(
        reference.roc_auc_score(~correct, 1 - scores)
    )


def test_auroc_of_one_side_only_is_no_number() -> None:
    assert np.isnan(auroc(np.array([]), np.array([1.0])))


def test_bootstrap_interval_of_a_coin() -> None:
    found = bootstrap(lambda flags: float(flags.mean()), np.array([True, False] * 100))
    assert found.value == 0.5
    assert 0.42 < found.low < 0.45
    assert 0.55 < found.high < 0.58


def test_risk_coverage_by_hand() -> None:
    confidence = np.array([0.9, 0.2, 0.8, 0.5])
    correct = np.array([True, False, True, False])
    assert risk_coverage(confidence, correct).tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert aurc(confidence, correct) == pytest.approx((1 / 3 + 0.5) / 4)
    assert accuracy_at_coverage(confidence, correct, 0.5) == 1.0
    assert accuracy_at_coverage(confidence, correct, 1.0) == 0.5


def test_the_null_band_holds_a_calibrated_model_and_not_another(rng: np.random.Generator) -> None:
    inside = 0
    for _ in range(20):
        probabilities, labels = simulated(rng, 200)
        inside += adaptive_ece(probabilities, labels) <= ece_null_p95(probabilities)
    assert inside >= 16  # 19 of 20 expected; 15 or fewer happen in 1 of 3,000 runs
    probabilities, labels = simulated(rng, 400, sharpening=4.0)
    assert adaptive_ece(probabilities, labels) > ece_null_p95(probabilities)


@pytest.mark.parametrize("method", SET_METHODS)
def test_sets_cover_what_they_promise(method: SetMethod, rng: np.random.Generator) -> None:
    probabilities, labels = simulated(rng, 1000)
    fresh, fresh_labels = simulated(rng, 4000)
    for coverage in (0.7, 0.9, 0.95):
        quantile = conformal_quantile(true_scores(probabilities, labels, method), coverage)
        members = prediction_sets(fresh, quantile, method)
        covered = members[np.arange(len(fresh)), fresh_labels].mean()
        assert covered == pytest.approx(coverage, abs=0.035)  # about 3 σ of both samples
        assert members.sum(axis=1).min() >= 1


def test_scores_of_one_track_by_hand() -> None:
    probabilities = np.array([[0.1, 0.5, 0.15, 0.2, 0.05]])
    lac, aps, raps = (nonconformity(probabilities, method)[0] for method in SET_METHODS)
    np.testing.assert_allclose(lac, [0.9, 0.5, 0.85, 0.8, 0.95])
    np.testing.assert_allclose(aps, [0.95, 0.5, 0.85, 0.7, 1.0])
    penalty = RAPS_PENALTY * np.array([1, 0, 0, 0, 2])
    np.testing.assert_allclose(raps, aps + penalty)


def test_the_adaptive_set_is_longer_on_a_hard_track() -> None:
    """On a uniform track LAC may keep one genre only, APS keeps more."""
    hard, easy = np.full((1, 5), 0.2), np.array([[0.96, 0.01, 0.01, 0.01, 0.01]])
    assert prediction_sets(hard, 0.7, "lac").sum() == 1
    assert prediction_sets(hard, 0.95, "aps").sum() == 4
    assert prediction_sets(easy, 0.95, "aps").sum() == 1


def test_more_coverage_takes_more_genres(rng: np.random.Generator) -> None:
    probabilities, labels = simulated(rng, 300)
    table = fit_quantiles(true_scores(probabilities, labels, "lac"))
    assert next(iter(table)) == "0.50"
    quantiles = list(table.values())
    assert quantiles == sorted(quantiles)


def test_few_tracks_support_no_high_coverage() -> None:
    scores = np.linspace(0, 1, 20)
    assert "0.95" in fit_quantiles(scores)
    assert "0.96" not in fit_quantiles(scores)
    with pytest.raises(ValueError, match=r"20 tracks cannot support a coverage of 0\.96"):
        conformal_quantile(scores, 0.96)


def test_the_review_threshold_reaches_its_target(rng: np.random.Generator) -> None:
    probabilities, labels = simulated(rng, 2000)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    threshold = review_threshold(confidence, correct, 0.9)
    assert correct[confidence >= threshold].mean() == pytest.approx(0.9, abs=0.03)
    assert review_threshold(confidence, np.zeros(2000, bool), 0.9) == 1.0
    assert review_threshold(confidence, correct, 0.1) == confidence.min()


def test_the_floor_undoes_over_confidence(rng: np.random.Generator) -> None:
    probabilities, labels = simulated(rng, 2000)
    assert fit_floor(probabilities, labels) < 0.02
    relabelled = rng.random(2000) < 0.3
    labels[relabelled] = rng.integers(N_CLASSES, size=relabelled.sum())
    assert fit_floor(probabilities, labels) == pytest.approx(0.3, abs=0.05)
