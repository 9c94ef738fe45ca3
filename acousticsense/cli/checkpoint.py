"""`acousticsense checkpoint import`: weights of other libraries as a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acousticsense.cli.exit_codes import help_end
from acousticsense.cli.options import readable_errors

app = typer.Typer(help="Work with checkpoints.", no_args_is_help=True, rich_markup_mode=None)


@app.command(
    "import",
    epilog=help_end(
        "checkpoint import best_model.pt guide",
        "checkpoint import weights.safetensors mine --front-end front-end.yaml",
    ),
)
def import_(
    weights: Annotated[Path, typer.Argument(help=".safetensors, .pt, .pth or .bin file.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    front_end: Annotated[
        Path | None,
        typer.Option(help="YAML with labels, mel and scaling; the guide's by default."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "imported",
) -> None:
    """Import a ViT of torchvision, timm or transformers.

    The result has a temperature of 1: it is not calibrated.
    """
    with readable_errors():
        from deployments.built_in import GUIDE_FRONT_END, built_in
        from deployments.importing import import_checkpoint

        digest = import_checkpoint(weights, out, front_end or built_in(GUIDE_FRONT_END), name)
    typer.echo(f"{out}: {name}, digest {digest}, not calibrated")
