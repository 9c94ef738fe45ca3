"""List what a person should look at: `python examples/review_queue.py FOLDER`.

Least confident first, with the reasons and the genres that it could be.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from acousticsense import Classifier, Prediction


def main() -> None:
    """Print the tracks that need a review."""
    parser = argparse.ArgumentParser(description="List the tracks that a person should look at.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with Classifier() as classifier:
        results = list(classifier.classify_many(folder, coverage=0.9))
    answers = [each for each in results if isinstance(each, Prediction)]
    queue = sorted((each for each in answers if each.needs_review), key=lambda p: p.confidence)
    for prediction in queue:
        print(prediction)
        for reason in prediction.reasons:
            print(f"    {reason.message}")
    print(f"{len(queue)} of {len(answers)} tracks need a review")


if __name__ == "__main__":
    main()
