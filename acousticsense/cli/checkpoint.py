"""`acousticsense checkpoint`: imports models of other libraries, and shows what one is."""

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
        "checkpoint import MIT/ast-finetuned-audioset-10-10-0.4593 --out ast",
        "checkpoint import ~/models/discogs-maest-10s-pw-129e --out maest",
        "checkpoint import best_model.pt --out guide --front-end front-end.yaml",
    ),
)
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with config.json, preprocessor_config.json and weights; id on the "
            "Hugging Face hub; or .safetensors, .pt, .pth or .bin file of a plain ViT."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the model; that of the source by default.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Which genre each label belongs to: audioset, discogs, a YAML file, or own to "
            "take the labels as genres; recognised by default."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="softmax where one label is right, sigmoid where each is right or wrong; what "
            "the model states by default."
        ),
    ] = None,
    front_end: Annotated[
        Path | None,
        typer.Option(
            help="With a file of weights: YAML with labels, mel and scaling; the guide's by "
            "default."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the hub; the newest by default.")
    ] = None,
) -> None:
    """Import an AST or MAEST model of the hub, or a ViT of torchvision, timm or transformers.

    The result is not calibrated: run `acousticsense calibrate` on labelled music.
    """
    with readable_errors():
        from acoustic.errors import ConfigError
        from deployments.importing import ImportOptions, import_checkpoint

        if output not in (None, "softmax", "sigmoid"):
            raise ConfigError(f"output is {output!r}, known are softmax and sigmoid")
        options = ImportOptions(
            name=name,
            front_end=front_end,
            labels=labels,
            output=output,  # type: ignore[arg-type]  # checked above
            revision=revision,
        )
        manifest = import_checkpoint(source, out, options)
    typer.echo(f"{out}: {manifest.name}, digest {manifest.digest}, not calibrated")
    if manifest.source:
        typer.echo(_licence_line(manifest.source))


@app.command(epilog=help_end("checkpoint export models/default --out model.onnx"))
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="File to write.")],
) -> None:
    """Write the network as ONNX: windows (uint8, or float16) to logits and features.

    Decoding, the spectrogram and the calibration are not part of it. Needs the extra onnx.
    """
    with readable_errors():
        from acoustic.checkpoint_folder import CheckpointFolder
        from acoustic.classify.checkpoint import load_checkpoint
        from acoustic.classify.onnx_export import export_onnx
        from acoustic.errors import ConfigError
        from acoustic.golden import golden_windows

        if out.suffix != ".onnx":
            raise ConfigError(f"--out is {out}, must end with .onnx")
        if out.exists():
            raise ConfigError(f"{out} exists: choose another --out")
        if not out.parent.is_dir():
            raise ConfigError(f"{out} cannot be written: there is no folder {out.parent}")
        folder = CheckpointFolder.open(checkpoint)
        difference = export_onnx(load_checkpoint(folder), out, golden_windows(folder))
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, within {difference:.4f} of PyTorch")


@app.command(epilog=help_end("checkpoint show models/ast"))
def show(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
) -> None:
    """Say what a checkpoint is: model, labels, front end, licence, calibration."""
    with readable_errors():
        from acoustic.checkpoint_folder import CheckpointFolder
        from acoustic.postprocess.calibration import load_calibration

        folder = CheckpointFolder.open(checkpoint)
        calibration = load_calibration(folder)
    manifest, mel = folder.manifest, folder.mel
    network = manifest.architecture
    window = f"{mel.window_s:.2f} s at {mel.sample_rate} Hz, {mel.n_mels} x {mel.n_frames}"
    rows = [
        ("model", f"{manifest.name} {manifest.version}, digest {manifest.digest}"),
        ("network", f"{network['depth']} transformer blocks of width {network['width']}"),
        ("window", f"{window}, {mel.algorithm}, {mel.window_bytes / 1024:.0f} KiB"),
        ("genres", ", ".join(manifest.labels.names)),
    ]
    if manifest.styles is not None:
        n, output = len(manifest.styles["names"]), manifest.styles["output"]
        rows.append(("styles", f"{n} ({output})"))
    fitted = calibration.dataset if calibration.is_fitted else "no: scores, not probabilities"
    rows.append(("calibrated", fitted))
    for title, text in rows:
        typer.echo(f"{title + ':':<12}{text}")
    if manifest.source:
        typer.echo(_licence_line(manifest.source))


def _licence_line(source: dict[str, object]) -> str:
    note = " (no commercial use)" if source["non_commercial"] else ""
    return f"{'licence:':<12}{source['licence']}{note}, from {source['name']}"
