"""`acousticsense checkpoint import`: weights of other libraries as a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acousticsense.options import readable_errors

app = typer.Typer(help="Work with checkpoints.", no_args_is_help=True, rich_markup_mode=None)

SEED_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "seed.yaml"


@app.callback()
def group() -> None:
    """Work with checkpoints."""


@app.command("import")
def import_(
    weights: Annotated[Path, typer.Argument(help=".safetensors, .pt, .pth or .bin file.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    front_end: Annotated[
        Path, typer.Option(help="YAML with labels, mel and scaling; the guide's by default.")
    ] = SEED_CONFIG,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "imported",
) -> None:
    """Import a ViT of torchvision, timm or transformers.

    The result has a temperature of 1: it is not calibrated.
    """
    with readable_errors():
        from acousticsense.importing import import_checkpoint

        digest = import_checkpoint(weights, out, front_end, name)
    typer.echo(f"{out}: {name}, digest {digest}, not calibrated")
