"""Classify a folder into a CSV file: `python examples/classify_folder.py FOLDER OUT.csv`.

Files that cannot be read get a line with the reason; decoding runs in threads beside the model.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from acousticsense import AcousticError, Classifier


def main() -> None:
    """Write one line per audio file."""
    parser = argparse.ArgumentParser(description="Classify a folder into a CSV file.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    out: Path = arguments.out
    with Classifier() as classifier, out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "genre", "confidence", "could_be", "needs_review", "error"])
        for result in classifier.classify_many(arguments.folder):
            if isinstance(result, AcousticError):
                writer.writerow([result.file, "", "", "", "", result.message])
                continue
            members = result.prediction_set.genres if result.prediction_set else ()
            writer.writerow(
                [result.file, result.genre, f"{result.confidence:.3f}", "; ".join(members),
                 str(result.needs_review).lower(), ""]
            )  # fmt: skip
    print(f"{out}: written")


if __name__ == "__main__":
    main()
