"""Detection and false-alarm rate of each review reason on injected faults.

Faults are made from held-out recordings: noise and clipping added, upper bands or most of the
sound removed, cut short, two genres spliced; non-music sounds are faults too. Each case is
classified by the serving pipeline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from acoustic.data.dataset import Clip
from acoustic.data.outliers import Outlier
from acoustic.data.sources import read_waveform
from acoustic.errors import InputError
from acoustic.evaluation.corruptions import (
    Samples,
    add_noise,
    clip,
    low_pass,
    pink_noise,
    to_wav,
    white_noise,
)
from acoustic.fitting.intervals import bootstrap
from acoustic.pipeline import Pipeline
from acoustic.request import Effort, RequestOptions

logger = logging.getLogger(__name__)

N_CASES = 200
EFFORTS: tuple[Effort, ...] = ("balanced", "thorough")
SHORT_S = 2.0
AUDIBLE_RATIO = 0.2

Maker = Callable[[np.random.Generator], Samples]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault and the review reason that it should raise.

    Attributes:
        cause: description of the fault, e.g. "cut to 2 s".
        code: code of the review reason, e.g. "TOO_SHORT".
        make: draws one case, (n,) float32 mono.
    """

    cause: str
    code: str
    make: Maker


def measure_faults(
    pipeline: Pipeline,
    clips: Sequence[Clip],
    outliers: Sequence[Outlier],
    n_cases: int = N_CASES,
    n_threads: int = 1,
) -> dict[str, Any]:
    """Share of faulty cases, and of clean tracks, that get each reason.

    Args:
        pipeline: pipeline with the checkpoint, as in serving.
        clips: clips held out from training; those without audio are left out.
        outliers: held-out non-music sounds.
        n_cases: number of cases per fault.
        n_threads: cases at the same time.

    Returns:
        n_cases, n_clean, `faults` (one row per fault and effort: share raised, with interval) and
        `clean` (one row per reason and effort: share of the clean tracks).
    """
    rate = pipeline.preprocessor.config.mel.sample_rate
    audible = [clip for clip in clips if clip.path is not None]
    music = [(clip.label, read_waveform(clip.path, rate)) for clip in audible if clip.path]
    faults = list_faults(music, outliers, rate)
    with ThreadPoolExecutor(n_threads) as pool:
        return {
            "n_cases": n_cases,
            "n_clean": len(music),
            "faults": [
                _measure(pool, pipeline, fault, effort, n_cases)
                for fault in faults
                for effort in EFFORTS
            ],
            "clean": _measure_clean(pool, pipeline, [waveform for _, waveform in music]),
        }


def list_faults(
    music: Sequence[tuple[int, Samples]], outliers: Sequence[Outlier], rate: int
) -> list[Fault]:
    """List all faults, with one more for each kind of non-music sound.

    Args:
        music: label and (n,) float32 waveform of each music recording.
        outliers: non-music sounds; may be empty.
        rate: sample rate of both, Hz.
    """

    def through(change: Callable[[Samples, np.random.Generator], Samples]) -> Maker:
        return lambda rng: change(music[int(rng.integers(len(music)))][1], rng)

    faults = [
        Fault(cause="white noise at 0 dB", code="NOISY",
              make=through(lambda x, rng: add_noise(x, white_noise(x.size, rng), 0))),
        Fault(cause="clipping at +12 dB", code="CLIPPED",
              make=through(lambda x, rng: clip(x, rate, 12, rng))),
        Fault(cause="low-pass at 3 kHz", code="NARROW_BAND",
              make=through(lambda x, rng: low_pass(x, rate, 3000, rng))),
        Fault(cause="80 % silence", code="MOSTLY_SILENT", make=through(_mostly_silent)),
        Fault(cause="cut to 2 s", code="TOO_SHORT",
              make=through(lambda x, rng: _cut(x, round(SHORT_S * rate), rng))),
        Fault(cause="two genres spliced", code="SEGMENTS_DISAGREE",
              make=lambda rng: _spliced(music, rng)),
        Fault(cause="white or pink noise", code="NOT_MUSIC", make=lambda rng: _noise(rate, rng)),
    ]  # fmt: skip
    for kind in sorted({outlier.kind for outlier in outliers}):
        sounds = [outlier.waveform for outlier in outliers if outlier.kind == kind]
        faults.append(Fault(cause=kind, code="NOT_MUSIC", make=_picks(sounds, rate)))
    return faults


def _measure(
    pool: Executor, pipeline: Pipeline, fault: Fault, effort: Effort, n_cases: int
) -> dict[str, Any]:
    rate = pipeline.preprocessor.config.mel.sample_rate

    def is_raised(case: int) -> bool:
        # Seeded by case and cause: adding a fault or more cases changes no other case.
        samples = fault.make(np.random.default_rng((case, len(fault.cause))))
        return fault.code in _reasons(pipeline, samples, rate, effort)

    raised = list(pool.map(is_raised, range(n_cases)))
    logger.info(
        "cause=%s effort=%s code=%s raised=%.3f", fault.cause, effort, fault.code, np.mean(raised)
    )
    return {
        "cause": fault.cause,
        "code": fault.code,
        "effort": effort,
        "raised": bootstrap(lambda flags: float(flags.mean()), np.array(raised)).to_dict(),
    }


def _measure_clean(
    pool: Executor, pipeline: Pipeline, waveforms: Sequence[Samples]
) -> list[dict[str, Any]]:
    rate = pipeline.preprocessor.config.mel.sample_rate
    rows = []
    for effort in EFFORTS:
        reasons = partial(_reasons, pipeline, rate=rate, effort=effort)
        found = list(pool.map(reasons, waveforms))
        for code in sorted({code for codes in found for code in codes}):
            flags = np.array([code in codes for codes in found])
            share = bootstrap(lambda each: float(each.mean()), flags).to_dict()
            rows.append({"code": code, "effort": effort, "raised": share})
    return rows


def _reasons(pipeline: Pipeline, samples: Samples, rate: int, effort: Effort) -> set[str]:
    """Codes of the review reasons; none for a rejected input, which has an error instead."""
    try:
        prediction = pipeline.classify(to_wav(samples, rate), RequestOptions(effort=effort))
    except InputError:
        return set()
    return {reason.code for reason in prediction.reasons}


def _mostly_silent(x: Samples, rng: np.random.Generator) -> Samples:
    n = round(AUDIBLE_RATIO * x.size)
    start = int(rng.integers(x.size - n + 1))
    silent = np.zeros_like(x)
    silent[start : start + n] = x[start : start + n]
    return silent


def _cut(x: Samples, n: int, rng: np.random.Generator) -> Samples:
    start = int(rng.integers(max(1, x.size - n)))
    return x[start : start + n]


def _spliced(music: Sequence[tuple[int, Samples]], rng: np.random.Generator) -> Samples:
    """Two whole recordings of different genres, one after the other."""
    label, first = music[int(rng.integers(len(music)))]
    others = [waveform for other, waveform in music if other != label]
    return np.concatenate([first, others[int(rng.integers(len(others)))]])


def _noise(rate: int, rng: np.random.Generator) -> Samples:
    make = (white_noise, pink_noise)[int(rng.integers(2))]
    noise = make(round(30 * rate), rng)
    level = 10 ** (rng.uniform(-30, 0) / 20)
    return np.asarray(noise / np.abs(noise).max() * level, np.float32)


def _picks(sounds: Sequence[Samples], rate: int) -> Maker:
    """Maker of a random part of a recording, 5 s or longer, at a random level."""

    def make(rng: np.random.Generator) -> Samples:
        x = sounds[int(rng.integers(len(sounds)))]
        part = _cut(x, int(rng.integers(5 * rate, max(5 * rate + 1, x.size))), rng)
        return np.asarray(part * 10 ** (rng.uniform(-12, 0) / 20), np.float32)

    return make
