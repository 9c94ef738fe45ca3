"""Classify one file in process: `python examples/classify_file.py [FILE]`.

Without a file it classifies a piece made in code, so it runs anywhere in a few seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from acoustic.example import example_wav
from acousticsense import Classifier


def main() -> None:
    """Print the three most probable genres and the reasons for a human review."""
    parser = argparse.ArgumentParser(description="Classify one file in this process.")
    parser.add_argument("file", type=Path, nargs="?", help="a piece made in code by default")
    audio = parser.parse_args().file or example_wav(30)
    with Classifier() as classifier:
        prediction = classifier.classify(audio, top_k=3)
    for score in prediction.predictions:
        print(f"{score.probability:6.1%}  {score.genre}")
    for reason in prediction.reasons:
        print(f"review: {reason.message}")


if __name__ == "__main__":
    main()
