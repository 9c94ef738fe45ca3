"""Classify one file in process: `python examples/classify_file.py [FILE]`.

Without a file it classifies a chord that is made here, so it runs anywhere in a few seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

from acoustic.pipeline import Pipeline
from acoustic.preprocess.example import example_wav

CHECKPOINT = Path(__file__).resolve().parent.parent / "models" / "default"


def main() -> None:
    """Print the three most probable genres and what a person should look at."""
    pipeline = Pipeline.from_folder(CHECKPOINT)
    data = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else example_wav(30)
    prediction = pipeline.classify(data, top_k=3)
    for score in prediction.predictions:
        print(f"{score.probability:6.1%}  {score.genre}")
    for reason in prediction.reasons:
        print(f"look: {reason.message}")


if __name__ == "__main__":
    main()
