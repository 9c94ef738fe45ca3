"""Options of `acousticsense train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DeviceOption(StrEnum):
    """Where to train."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class OptimiserOption(StrEnum):
    """What steps the blocks' matrices."""

    MUON = "muon"
    ADAMW = "adamw"


Out = Annotated[Path, typer.Option(help="Checkpoint folder to write.")]
Variant = Annotated[
    str | None,
    typer.Option(
        help="Train a new model instead: vit_hybrid_musicnn (the kind of the built-in one), "
        "vit_hybrid, vit_nano, vit_tiny, vit_small or vit_b_16."
    ),
]
WindowS = Annotated[
    float | None,
    typer.Option(
        help="Length of one window, seconds; by default 2.9 of vit_hybrid_musicnn, 4.8 of "
        "vit_hybrid, 6 without a trunk."
    ),
]
Trunk = Annotated[
    Path | None,
    typer.Option(
        help="Where vit_hybrid has its pre-trained trunk from: a vit_hybrid checkpoint (the "
        "built-in model by default), or YAMNet as a .tflite file."
    ),
]
Musicnn = Annotated[
    Path | None,
    typer.Option(
        help="Where vit_hybrid_musicnn has its second trunk from: such a checkpoint (the built-in "
        "model by default), or the folder MSD_musicnn of the package musicnn."
    ),
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Checkpoint to fine-tune; the built-in model by default, unless --variant is given.",
    ),
]
CropsValue = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Crops that the transformer sees; 144,000 by default, 220,000 without a trunk.",
    ),
]
MaxMinutes = Annotated[
    float | None, typer.Option(help="Time limit; the schedule is shortened to fit.")
]
Resume = Annotated[bool, typer.Option(help="Continue an interrupted training.")]
Overwrite = Annotated[bool, typer.Option(help="Replace a checkpoint in --out.")]
ValidRatioValue = Annotated[
    float, typer.Option(help="Share held out, by group, where the data states no split.")
]
Noise = Annotated[bool, typer.Option(help="Add noise to some of the crops.")]
Optimiser = Annotated[
    OptimiserOption | None,
    typer.Option(
        help="Optimiser of the transformer blocks' matrices; AdamW trains all other weights. "
        "adamw by default, muon without a trunk."
    ),
]
LayerDecay = Annotated[
    float | None,
    typer.Option(help="Learning rate of a block over that of the next; 1, or 0.75 with --from."),
]
GradientCheckpointing = Annotated[bool, typer.Option(help="Less memory for more time.")]
Probe = Annotated[
    bool,
    typer.Option(
        help="With --from: fit only a new head on the features of its model, in the time of one "
        "pass over the data."
    ),
]
Unfreeze = Annotated[
    int | None,
    typer.Option(
        min=1, help="With --from: train only this many last blocks and the head; all by default."
    ),
]
SeedValue = Annotated[
    int, typer.Option(help="Random seed of the weights, the batches and the split.")
]
Device = Annotated[DeviceOption, typer.Option(help="Where to train.")]
Calibrate = Annotated[
    bool, typer.Option(help="Calibrate the checkpoint at the end, on the valid split.")
]
NameValue = Annotated[str, typer.Option(help="Name of the model.")]
VersionValue = Annotated[str, typer.Option(help="Version of the weights.")]
