"""Make the default checkpoint: `python -m acoustic.training train|calibrate …`.

`train` writes the weights and training.json; `calibrate` fits the temperatures on the valid
split, measures, and writes calibration.json and the model card. Both take the same data folders.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from acoustic.classify.checkpoint import save_checkpoint
from acoustic.classify.scaling import Scaling
from acoustic.classify.vit import VARIANTS
from acoustic.labels import GENRES
from acoustic.preprocess.mel import MelConfig
from acoustic.training.calibrate import calibrate
from acoustic.training.dataset import Clip, read_clips
from acoustic.training.train import Recipe, train

logger = logging.getLogger(__name__)


def main() -> None:
    """Parse the arguments and run one of the two commands."""
    parser = argparse.ArgumentParser(prog="python -m acoustic.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "calibrate"):
        command = commands.add_parser(name)
        command.add_argument("checkpoint", type=Path, help="folder to write")
        command.add_argument("data", type=Path, nargs="+", help="audio folder or mel pack")
        command.add_argument("--threads", type=int, default=torch.get_num_threads())
        if name == "train":
            command.add_argument("--name", default="acousticsense-nano")
            command.add_argument("--version", default="0.1.0")
            command.add_argument("--variant", choices=VARIANTS, default="vit_nano")
            command.add_argument("--crops", type=int, default=Recipe().n_crops)
            command.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    clips = read_clips(arguments.data, GENRES, MelConfig())
    if arguments.command == "train":
        _train(arguments, [clip for clip in clips if clip.split == "train"])
    else:
        calibrate(arguments.checkpoint, clips)


def _train(arguments: argparse.Namespace, clips: list[Clip]) -> None:
    recipe = Recipe(n_crops=arguments.crops, seed=arguments.seed)
    mel, scaling = MelConfig(), _fit_scaling(clips)
    start_cpu_s = time.process_time()
    model = train(clips, VARIANTS[arguments.variant], mel.n_frames, scaling, recipe)
    cpu_minutes = (time.process_time() - start_cpu_s) / 60
    save_checkpoint(
        arguments.checkpoint,
        name=arguments.name,
        version=arguments.version,
        model=model,
        labels=GENRES,
        mel=mel,
        scaling=scaling,
        half=True,
    )
    facts = {
        "variant": arguments.variant,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "recipe": asdict(recipe),
        "clips": _count(clips),
        "cpu_minutes": round(cpu_minutes, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
    }
    (arguments.checkpoint / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    logger.info("trained cpu_minutes=%.1f", cpu_minutes)


def _fit_scaling(clips: list[Clip]) -> Scaling:
    """Mean and deviation over the training clips, in dB relative to each clip's maximum."""
    sample = np.concatenate([clip.log_mel.ravel()[::50] for clip in clips])
    levels_db = sample.astype(np.float64) * (80 / 255) - 80
    return Scaling(
        mean_db=round(float(levels_db.mean()), 2), std_db=round(float(levels_db.std()), 2)
    )


def _count(clips: list[Clip]) -> dict[str, dict[str, int]]:
    """Clips per genre and source."""
    counts: dict[str, dict[str, int]] = {}
    for (name, source), n in sorted(
        Counter((GENRES.names[c.label], c.source) for c in clips).items()
    ):
        counts.setdefault(name, {})[source] = n
    return counts


if __name__ == "__main__":
    main()
