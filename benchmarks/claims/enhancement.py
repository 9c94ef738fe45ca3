"""Accuracy in noise, with every enhancement, for models trained with and without noise.

The guide claims 13.8 points for its spectral subtraction and compression on noisy samples. Here
every variant processes the same noisy recordings, with the serving front end.

Shapes: K tracks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.data.dataset import Clip
from acoustic.data.outliers import Outlier
from acoustic.data.sources import read_waveform
from acoustic.errors import InputError
from acoustic.evaluation.corruptions import (
    Samples,
    add_noise,
    pink_noise,
    to_wav,
    white_noise,
)
from acoustic.pipeline import Pipeline
from acoustic.preprocess.enhance import EnhanceConfig
from acoustic.preprocess.preprocessor import Preprocessor
from acoustic.resources import usable_cpus
from acoustic.types import TrackFeatures
from benchmarks.claims.verdicts import Claim, mean_interval, paired_effect

logger = logging.getLogger(__name__)

SNR_DB = (10, 0)
CLEAN = "clean"
PLAIN = "none"
GUIDE = "the guide's both"
VARIANTS = {
    PLAIN: EnhanceConfig(),
    "the guide's subtraction": EnhanceConfig(denoise="guide"),
    "the guide's compressor": EnhanceConfig(compress="guide"),
    GUIDE: EnhanceConfig(denoise="guide", compress="guide"),
}
CLAIMED = 0.138

Flags = npt.NDArray[np.bool_]
Answers = dict[str, dict[str, dict[str, Flags]]]
"""Model → variant → condition → (K,) whether the answer is right."""


def evaluate_in_noise(
    models: Mapping[str, Pipeline], clips: Sequence[Clip], outliers: Sequence[Outlier]
) -> Answers:
    """Evaluate every model with every enhancement variant on every noisy recording.

    Args:
        models: name → pipeline; all with the same front end and genres.
        clips: clips held out from training; those without audio are left out.
        outliers: held-out non-music recordings, used as noise.

    Returns:
        Model → variant → condition → (K,) whether the answer is right.
    """
    first = next(iter(models.values())).preprocessor
    rate = first.config.mel.sample_rate
    stages = {
        name: Preprocessor(replace(first.config, enhance=config))
        for name, config in VARIANTS.items()
    }
    audible = [clip for clip in clips if clip.path is not None]

    def evaluate(index: int) -> dict[tuple[str, str, str], bool]:
        clip = audible[index]
        assert clip.path is not None
        found: dict[tuple[str, str, str], bool] = {}
        waveform = read_waveform(clip.path, rate)
        for condition, samples in _conditions(waveform, outliers, index).items():
            features = {n: _features(stage, samples, rate) for n, stage in stages.items()}
            for model, pipeline in models.items():
                for variant, right in _answers(pipeline, features, clip.label).items():
                    found[model, variant, condition] = right
        return found

    rows: dict[tuple[str, str, str], list[bool]] = {}
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for index, found in enumerate(pool.map(evaluate, range(len(audible)))):
            for key, right in found.items():
                rows.setdefault(key, []).append(right)
            if index % 20 == 19:
                logger.info("evaluated %d of %d tracks in noise", index + 1, len(audible))
    answers: Answers = {}
    for (model, variant, condition), flags in rows.items():
        answers.setdefault(model, {}).setdefault(variant, {})[condition] = np.array(flags)
    return answers


def summarise(answers: Answers) -> list[dict[str, Any]]:
    """Accuracy per model and variant: clean, and the mean over kinds of noise per SNR."""
    rows = []
    for model, variants in answers.items():
        for variant, found in variants.items():
            noisy = {
                f"{snr_db} dB": mean_interval(_stack(found, f" {snr_db} dB")) for snr_db in SNR_DB
            }
            clean = mean_interval(found[CLEAN])
            rows.append({"model": model, "variant": variant, "clean": clean, **noisy})
    return rows


def enhancement_claims(answers: Answers) -> list[Claim]:
    """Claims about every enhancement variant in noise, for every model."""
    claims = []
    for model, variants in answers.items():
        plain = _stack(variants[PLAIN], " dB")
        for variant in VARIANTS:
            if variant == PLAIN:
                continue
            claims.append(
                Claim(
                    technique=f"enhancement: {variant} (4.1)",
                    setting=f"noise at {' and '.join(map(str, SNR_DB))} dB, {model}",
                    unit="accuracy",
                    claimed=CLAIMED if variant == GUIDE else None,
                    effect=paired_effect(_stack(variants[variant], " dB"), plain),
                )
            )
    return claims


def training_gain(answers: Answers, with_noise: str, without: str) -> Claim:
    """Claim about noise in training instead of enhancement.

    Args:
        answers: result of `evaluate_in_noise`.
        with_noise: name of the model trained with noise.
        without: name of the model trained without noise.
    """
    return Claim(
        technique="instead: noise in training",
        setting=f"noise at {' and '.join(map(str, SNR_DB))} dB, no enhancement",
        unit="accuracy",
        claimed=None,
        effect=paired_effect(
            _stack(answers[with_noise][PLAIN], " dB"), _stack(answers[without][PLAIN], " dB")
        ),
    )


def _stack(found: Mapping[str, Flags], ending: str) -> npt.NDArray[np.bool_]:
    """(K, conditions) answers in the conditions whose name has this ending."""
    return np.stack([flags for name, flags in found.items() if name.endswith(ending)], axis=1)


def _conditions(waveform: Samples, outliers: Sequence[Outlier], index: int) -> dict[str, Samples]:
    """Condition → samples; each kind of noise is drawn once and added at every SNR."""
    rng = np.random.default_rng(index)
    noises = {
        "white": white_noise(waveform.size, rng),
        "pink": pink_noise(waveform.size, rng),
    }
    for kind in sorted({outlier.kind for outlier in outliers}):
        found = [outlier.waveform for outlier in outliers if outlier.kind == kind]
        if len(found) >= 5:  # fewer are too few to stand for a kind of noise
            noises[kind] = found[int(rng.integers(len(found)))]
    noisy = {
        f"{kind} {snr_db} dB": add_noise(waveform, noise, snr_db)
        for kind, noise in noises.items()
        for snr_db in SNR_DB
    }
    return {CLEAN: waveform, **noisy}


def _features(stage: Preprocessor, samples: Samples, rate: int) -> TrackFeatures | None:
    try:
        return stage.process(to_wav(samples, rate), "balanced")
    except InputError:
        return None


def _answers(
    pipeline: Pipeline, features: Mapping[str, TrackFeatures | None], label: int
) -> dict[str, bool]:
    """Variant → whether the answer is right; a rejected input counts as wrong."""
    accepted = {name: each for name, each in features.items() if each is not None}
    tracks = pipeline.classifier.classify(list(accepted.values())) if accepted else []
    name = pipeline.postprocessor.labels.names[label]
    right = dict.fromkeys(features, False)
    for variant, track in zip(accepted, tracks, strict=True):
        right[variant] = pipeline.postprocessor.process(track).top_genre == name
    return right
