"""An evaluation as `evaluate` returns it, in which all numbers differ, and readers of pages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

Report = dict[str, Any]
GENRES = ("Blues", "Jazz", "Rock")


class Numbers:
    """Numbers that are given out once each."""

    def __init__(self) -> None:
        self._counts = itertools.count(101)

    def count(self) -> int:
        return next(self._counts)

    def ratio(self) -> float:
        return next(self._counts) / 1000

    def percentage(self) -> float:
        """Different from the others when only two decimals are shown."""
        return next(self._counts) + 0.25

    def interval(self) -> dict[str, float]:
        return {"value": self.ratio(), "low": self.ratio(), "high": self.ratio()}


def made_report() -> Report:
    """An evaluation with every section; only what is shown has a number."""
    n = Numbers()
    return {
        "checkpoint": {
            "name": "duo", "version": "1", "digest": "0123456789ab", "n_parameters": 987_650_000,
            "labels": list(GENRES), "window_s": 6.03,
        },
        "date": "2026-02-03", "windows": n.count(), "coverage": 0.87,
        "review_accuracy": n.ratio(), "cross_fitted": True, "skipped": n.count(),
        "pooled": _pooled(n),
        "collections": {
            "summary": "Nine of ten.", "unseen": _unseen(n), "seen": _side(n),
        },
        "each_collection": [
            {
                "collection": "a shop", "n_tracks": n.count(),
                **{k: n.ratio() for k in ("accuracy", "confidence", "covered", "accepted")},
            }
        ],
        "sources": {name: _source(n) for name in ("folk_songs", "city_songs")},
        "auto": [{"margin": n.ratio(), "windows": n.ratio(), "accuracy": n.interval()}],
        "uncalibrated": {"adaptive_ece": n.ratio(), "null_p95": n.ratio()},
        "baselines": {
            "majority": {"city_songs": {"accuracy": n.interval(), "macro_f1": n.interval()}}
        },
        "outliers": [
            {"kind": "speech", "n": n.count(), "score": score, "auroc": n.interval()}
            for score in ("entropy", "1 − confidence")
        ],
        "parity": {
            "n_tracks": n.count(), "median_difference_db": n.ratio(),
            "worst_difference_db": n.ratio(), "same_top_1": n.interval(),
        },
        "robustness": {
            "n_tracks": n.count(), "loud_noise_accuracy": n.ratio(),
            "relative_robustness": n.ratio(),
            "rows": [
                {"kind": kind, "strength": strength, "accuracy": n.interval(), "refused": n.count()}
                for kind, strength in (("clean", ""), ("MP3", "x kbit/s"), ("clipping", "x dB"))
            ],
        },
        "reasons": {
            "n_cases": n.count(), "n_clean": n.count(),
            "faults": [
                {"cause": "hum", "code": "NOISY", "effort": effort, "raised": n.interval()}
                for effort in ("balanced", "thorough")
            ],
            "clean": [{"code": "NOISY", "effort": "thorough", "raised": n.interval()}],
        },
    }  # fmt: skip


def _part(n: Numbers) -> Report:
    """Measures that are shown of every data set and of all together."""
    intervals = ("accuracy", "macro_f1", "family_accuracy", "nll", "brier")
    return {
        "n_tracks": n.count(),
        **{name: n.interval() for name in intervals},
        "own_genres": {"n_genres": 2, "accuracy": n.interval()},
        "calibration": {"adaptive_ece": n.ratio(), "null_p95": n.ratio()},
        "selective": {
            "accepted": n.percentage(),
            **{
                name: n.interval()
                for name in ("error_auroc", "aurc", "accuracy_at_70", "accepted_accuracy")
            },
        },
        "prediction_sets": {"coverage": n.interval(), "size": n.interval()},
    }


def _side(n: Numbers) -> Report:
    """Measures that are shown of the tracks of unseen, or of seen, collections."""
    return {
        "n_tracks": n.count(),
        **{name: n.interval() for name in ("accuracy", "macro_f1", "family_accuracy", "nll")},
        "calibration": {"adaptive_ece": n.ratio(), "null_p95": n.ratio()},
        "selective": {
            "accepted": n.ratio(),
            "accepted_accuracy": n.interval(),
            "error_auroc": n.interval(),
        },
        "families": {"shown": n.ratio(), "accuracy": n.interval()},
        "prediction_sets": {"coverage": n.interval(), "size": n.interval()},
    }


def _unseen(n: Numbers) -> Report:
    genres = {
        genre: {
            "n": n.count(), "n_collections": n.count(), "recall": n.interval(),
            "precision": n.percentage(),
        }
        for genre in GENRES
    }  # fmt: skip
    return {**_side(n), "per_genre": genres, "n_collections": n.count()}


def _pooled(n: Numbers) -> Report:
    family = {"genres": ["Blues", "Jazz"], "n": n.count()}
    recalls = {"recall": n.interval(), "merged_recall": n.interval()}
    confusion = [[0, 2, 1], [5, 20, 0], [0, 9, 30]]
    return {**_part(n), "per_family": {"Blues & Jazz": family | recalls}, "confusion": confusion}


def _source(n: Numbers) -> Report:
    genres = {
        genre: {"n": n.count(), "recall": n.interval(), "precision": n.percentage()}
        for genre in GENRES
    }
    windows = [{"windows": n.count(), "aggregation": "vote", "accuracy": n.interval()}]
    return {**_part(n), "per_genre": genres, "by_windows": windows}


def numbers_of(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a report, with the name of its field."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers_of(each, f"{name}.{key}")
    elif isinstance(value, list):
        for each in value:
            yield from numbers_of(each, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def is_shown(number: float, page: str) -> bool:
    """Whether the page has a number, as it is, with two or three decimals, or as a percentage."""
    shown = set(re.findall(r"[\d.]*\d%?", page))
    forms = (str(number), f"{number:.3f}", f"{number:.2f}", f"{number:.0%}")
    return any(form in shown for form in forms)


def sections(page: str) -> dict[str, str]:
    """Heading → text of the sections of a Markdown page; "" → what is before them."""
    begin, *parts = page.split("\n## ")
    return {"": begin, **dict(part.split("\n", 1) for part in parts)}


def tables(page: str) -> list[list[list[str]]]:
    """Cells of the rows of each Markdown table of a page; the header is the first row."""
    found = re.findall(r"(?:^\|.*\|\n)+", page, flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        for block in found
    ]
