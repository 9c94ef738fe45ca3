"""Limits of one answer: those of the settings; where they set none, those of the calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acoustic.postprocess.calibration import Calibration, WindowCalibration
from acoustic.postprocess.families import FamilyLimits
from acoustic.postprocess.reasons import ReviewThresholds

DEFAULT_MIN_CONFIDENCE = 0.5
"""Confidence threshold when neither the settings nor the calibration set one."""

DEFAULT_MAX_NOT_MUSIC = 0.5
"""Largest probability of not being music, of a model without calibration."""


def review_limits(
    configured: ReviewThresholds, calibration: Calibration, fitted: WindowCalibration
) -> ReviewThresholds:
    """The thresholds of the review reasons.

    Args:
        configured: of the settings.
        calibration: of the model.
        fitted: the part of it for the number of windows that were evaluated.
    """
    confidence = fitted.review_threshold
    found: dict[str, Any] = {
        "min_confidence": DEFAULT_MIN_CONFIDENCE if confidence is None else confidence,
        "max_segment_disagreement": fitted.limits.get("segment_disagreement"),
        "max_distance": fitted.limits.get("distance"),
        "max_not_music": fitted.limits.get("not_music"),
    }
    if not calibration.is_fitted:
        found["max_not_music"] = DEFAULT_MAX_NOT_MUSIC
    missing = {k: v for k, v in found.items() if getattr(configured, k) is None}
    return replace(configured, **missing)


def family_limits(fitted: WindowCalibration, limits: ReviewThresholds) -> FamilyLimits:
    """From which probability a genre, and a family, is a reliable answer."""
    genre = limits.min_confidence or 0.0
    fitted_family = fitted.family_threshold
    return FamilyLimits(
        genre=genre,
        margin=limits.min_margin,
        family=genre if fitted_family is None else fitted_family,
    )
