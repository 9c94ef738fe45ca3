"""What each part of the recipe of a hybrid contributes, on collections that were left out.

    python -m benchmarks.hybrid_recipe MUSIC MUSIC_NEW --not-music SOUNDS --collection COLUMN
        [--architecture vit_hybrid_musicnn] [--trunk models/default] [--crops 48000] [--seeds 2]

The crops pass the trunks once; every variant is fitted to its maps and tested on the valid tracks
of collections that are not in train, with ten windows and a cross-fitted calibration. Differences
from the recipe are paired: the same collections are drawn for both. The learning curve leaves out
collections, in two random orders. The section of docs/recipe.md is written from what was measured;
the last line of output is the JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic.classify.vit_config import VARIANTS
from acoustic.data.dataset import Clip, read_dataset
from acoustic.data.outliers import read_outliers
from acoustic.evaluation.metrics import accuracy, macro_f1
from acoustic.fitting.intervals import bootstrap
from acoustic.fitting.scores import negative_log_likelihood
from acoustic.training.trainer import Recipe
from acoustic.training.trunk import FRONTS, read_second_trunk, read_trunk
from benchmarks.document import markdown_table, write_section
from benchmarks.hybrid_bench import Bench, Variant

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipe.md"


def _batches(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, batches=replace(recipe.batches, **changes))


def _hybrid(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, hybrid=replace(recipe.hybrid, **changes))


def _penalty(factor: float) -> Callable[[Recipe], Recipe]:
    return lambda recipe: _hybrid(penalty=factor * recipe.hybrid.penalty)(recipe)


OF_TWO_TRUNKS = [
    Variant(title="only the linear head, of the first trunk", heads="linear", features="first"),
    Variant(title="only the linear head, of musicnn", heads="linear", features="second"),
]

VARIANTS_TRIED = [
    Variant(title="the recipe"),
    Variant(title="only the linear head", heads="linear"),
    Variant(title="only the transformer", heads="transformer"),
    Variant(title="transformer taught by labels alone", recipe=_hybrid(taught=0.0)),
    Variant(title="transformer taught by the linear heads alone", recipe=_hybrid(taught=1.0)),
    Variant(title="no transformer block, mean of the tokens", depth=0),
    Variant(title="four transformer blocks", depth=4),
    Variant(title="a tenth of the penalty", recipe=_penalty(0.1)),
    Variant(title="ten times the penalty", recipe=_penalty(10.0)),
    Variant(title="crops as they are, none augmented", crops="plain"),
    Variant(title="augmented crops count like the others", recipe=_hybrid(augmented=1.0)),
    Variant(title="linear head from zero, not from AudioSet's genres", recipe=_hybrid(tag_prior=0)),
    Variant(title="from AudioSet's genres with 4 instead of 2", recipe=_hybrid(tag_prior=4.0)),
    Variant(title="trunk over the whole window at once", trunk="whole window"),
    Variant(title="last pair of convolutions fine-tuned", trunk="1"),
    Variant(title="last two pairs of convolutions fine-tuned", trunk="2"),
    Variant(title="transformer taught by linear head and transformer", teachers="ensemble"),
    Variant(title="no mixup", recipe=_batches(mixup_alpha=0.0)),
    Variant(
        title="genres and collections drawn as in the data",
        recipe=_batches(balance=1.0, collection_balance=1.0),
    ),
    Variant(
        title="genres and collections drawn alike",
        recipe=_batches(balance=0.0, collection_balance=0.0),
    ),
]


def measure(bench: Bench, logits: list[Any], base: Any = None) -> dict[str, Any]:
    """Measures of one variant with intervals over collections; paired differences from a base."""
    probabilities = bench.calibrated(logits).probabilities
    labels = np.array([clip.label for clip in bench.test])
    collections = np.array([clip.collection for clip in bench.test])

    def value(statistic: Any, *arrays: Any) -> dict[str, float]:
        return bootstrap(statistic, *arrays, clusters=collections).to_dict()

    found = {
        "accuracy": value(accuracy, probabilities, labels),
        "macro_f1": value(lambda p, y: macro_f1(p.argmax(axis=1), y), probabilities, labels),
        "nll": value(negative_log_likelihood, probabilities, labels),
    }
    if base is not None:
        found["nll_change"] = value(
            lambda p, q, y: negative_log_likelihood(p, y) - negative_log_likelihood(q, y),
            probabilities, base, labels,
        )  # fmt: skip
        found["accuracy_change"] = value(
            lambda p, q, y: accuracy(p, y) - accuracy(q, y), probabilities, base, labels
        )
    return {**found, "probabilities": probabilities}


def learning_curve(bench: Bench) -> list[dict[str, Any]]:
    """The linear head on 25, 50, 75 and 100 % of the collections that have few clips."""
    n_small = len(_collections(bench)[0])
    rows = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        draws = range(1 if share in (0.0, 1.0) else 2)
        found = [measure(bench, bench.logits(_linear(_drawn(bench, share, i)))) for i in draws]
        rows.append({"collections": round(share * n_small), **_means(found)})
    return rows


def unlabelled(bench: Bench) -> list[dict[str, Any]]:
    """The linear head on half of those collections, with the others guessed, left out or known."""
    halves = [_drawn(bench, 0.5, draw) for draw in range(2)]
    ways = {
        "left out": [bench.logits(_linear(half)) for half in halves],
        "labelled by a head of the first half": [
            bench.with_guessed_labels(half).logits(_linear()) for half in halves
        ],
        "labelled": [bench.logits(_linear())],
    }
    return [
        {"other_half": way, **_means([measure(bench, logits) for logits in found])}
        for way, found in ways.items()
    ]


def _linear(clips: Callable[[Clip], bool] = lambda clip: True) -> Variant:
    return Variant(title="", heads="linear", clips=clips)


def _collections(bench: Bench) -> tuple[list[str], set[str]]:
    """Collections of train with ten clips or fewer, and all others."""
    counts = Counter(clip.collection for clip in bench.train)
    small = sorted(name for name, n in counts.items() if n <= 10)
    return small, set(counts) - set(small)


def _drawn(bench: Bench, share: float, draw: int) -> Callable[[Clip], bool]:
    """Keeps the clips of a share of the small collections, and of all others."""
    small, large = _collections(bench)
    drawn = np.random.default_rng(draw).permutation(small)
    return _of({*drawn[: round(share * len(small))], *large})


def _means(found: list[dict[str, Any]]) -> dict[str, float]:
    names = ("accuracy", "macro_f1", "nll")
    return {k: round(float(np.mean([each[k]["value"] for each in found])), 4) for k in names}


def per_genre(bench: Bench) -> list[dict[str, Any]]:
    """The linear head on few tracks per genre: mean of three draws."""
    rows = []
    for n in (5, 10, 20, 40):
        per_draw = []
        for draw in range(3):
            order = np.random.default_rng(draw).permutation(len(bench.train))
            chosen: dict[int, list[int]] = {}
            for i in order:
                chosen.setdefault(bench.train[i].label, []).append(i)
            kept = {id(bench.train[i]) for each in chosen.values() for i in each[:n]}
            per_draw.append(measure(bench, bench.logits(_linear(_among(kept)))))
        rows.append({"tracks_per_genre": n, **_means(per_draw)})
    return rows


def _among(kept: set[int]) -> Callable[[Clip], bool]:
    return lambda clip: id(clip) in kept


def _of(collections: set[str]) -> Callable[[Clip], bool]:
    return lambda clip: clip.collection in collections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--not-music", type=Path, required=True)
    parser.add_argument("--collection")
    parser.add_argument("--architecture", choices=FRONTS, default="vit_hybrid_musicnn")
    parser.add_argument("--trunk", type=Path, default=Path("models/default"))
    parser.add_argument("--crops", type=int, default=48_000)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    architecture, mel = arguments.architecture, FRONTS[arguments.architecture].mel
    trunks, tried = read_trunk(arguments.trunk), VARIANTS_TRIED
    if VARIANTS[architecture].musicnn:
        trunks |= read_second_trunk(arguments.trunk)
        same = [each for each in tried if each.trunk == "as it is" and each.teachers == "linear"]
        tried = [same[0], *OF_TWO_TRUNKS, *same[1:]]
    bench = Bench(
        read_dataset(arguments.data, mel, collection=arguments.collection),
        read_outliers(arguments.not_music, mel, "train"),
        architecture,
        trunks,
        arguments.crops,
        arguments.seeds,
    )
    results: list[dict[str, Any]] = []
    base = None
    for variant in tried:
        begun_s = time.process_time()
        found = measure(bench, bench.logits(variant), base)
        base = found["probabilities"] if base is None else base
        found = {k: v for k, v in found.items() if k != "probabilities"}
        minutes = round((time.process_time() - begun_s) / 60, 1)
        results.append({"title": variant.title, **found, "cpu_minutes": minutes})
        print(variant.title, found["accuracy"], found["nll"], flush=True)
    curve = learning_curve(bench)
    document = {
        "n_tracks": len(bench.test),
        "n_collections": len({clip.collection for clip in bench.test}),
        "crops": arguments.crops,
        "seeds": arguments.seeds,
        "variants": results,
        "learning_curve": curve,
        "unlabelled": unlabelled(bench),
        "per_genre": per_genre(bench),
    }
    title = f"{architecture}, on collections that were left out"
    write_section(title, "python -m benchmarks.hybrid_recipe DATA…", _body(document), PAGE)
    print(json.dumps(document))


def _body(document: dict[str, Any]) -> str:
    rows = [
        [
            row["title"],
            *(_text(row[name]) for name in ("accuracy", "macro_f1", "nll")),
            _text(row.get("nll_change")),
            f"{row['cpu_minutes']:g}",
        ]
        for row in document["variants"]
    ]
    header = ["variant", "accuracy", "macro-F1", "NLL", "NLL, against the recipe", "CPU minutes"]
    curve = _table("small collections", document["learning_curve"], "collections")
    guessed = _table("other half", document["unlabelled"], "other_half")
    few = _table("most tracks per genre", document["per_genre"], "tracks_per_genre")
    return (
        f"{document['n_tracks']} tracks of {document['n_collections']} collections that were not "
        f"trained on, ten windows, cross-fitted temperature; {document['crops']:,} crops for the "
        f"transformer; mean logits of {document['seeds']} random seed(s). In "
        "brackets: 95 % bootstrap intervals over collections; those of differences are paired.\n\n"
        + markdown_table(header, rows)
        + "\n\nThe linear head alone, trained on all large collections and on some of those with "
        "ten clips or fewer (mean of two draws):\n\n"
        + curve
        + "\n\nSound without labels: the same with half of the small collections (mean of two "
        "draws), and what becomes of the other half:\n\n"
        + guessed
        + "\n\nThe linear head alone, trained on few tracks of each of the sixteen genres (mean of "
        "three draws):\n\n" + few
    )


def _table(first: str, rows: list[dict[str, Any]], key: str) -> str:
    """A row per value of `key`, with its accuracy, macro-F1 and NLL."""
    names = ("accuracy", "macro_f1", "nll")
    cells = [[str(row[key]), *(f"{row[name]:.3f}" for name in names)] for row in rows]
    return markdown_table([first, "accuracy", "macro-F1", "NLL"], cells)


def _text(value: dict[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"


if __name__ == "__main__":
    main()
