"""Test the guide's accuracy claims again: `python -m benchmarks.claims DATA --checkpoint FOLDER`.

DATA holds music, music_new and ood. Writes docs/claims.json, docs/claims.md and its pictures; the
last line of the output is the report as one JSON document. See `retest` for what is measured.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.data.dataset import read_dataset
from acoustic.data.outliers import read_outliers
from benchmarks.claims.page import write_claims
from benchmarks.claims.pictures import draw_claims
from benchmarks.claims.retest import Models, retest
from deployments.built_in import CHECKOUT, DEFAULT_CHECKPOINT, GUIDE_RULES, built_in
from deployments.config import load_rules


def main() -> None:
    """Measure, draw and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=built_in(DEFAULT_CHECKPOINT))
    parser.add_argument("--without-noise", type=Path, help="the same recipe, with --no-noise")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = CheckpointFolder.open(arguments.checkpoint)
    sources = [arguments.data / name for name in ("music", "music_new")]
    dataset = read_dataset(
        sources, folder.mel, labels=folder.labels, collection="source_repo_folder"
    )
    outliers = read_outliers(arguments.data / "ood", folder.mel, "valid")
    models = Models(folder=arguments.checkpoint, without_noise=arguments.without_noise)
    report = retest(models, dataset, outliers, load_rules(built_in(GUIDE_RULES)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    (arguments.out / "claims.json").write_text(text + "\n", encoding="utf-8")
    pictures = [f"claims/{name}" for name in draw_claims(report, arguments.out / "claims")]
    (arguments.out / "claims.md").write_text(write_claims(report, pictures), encoding="utf-8")
    print(json.dumps(report, allow_nan=False, ensure_ascii=False))


if __name__ == "__main__":
    main()
