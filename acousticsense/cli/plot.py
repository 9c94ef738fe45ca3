"""`acousticsense plot FILE`: a picture of the answer about one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acousticsense.cli.options import (
    Config,
    Effort,
    EffortOption,
    Model,
    TaxonomyName,
    quiet_decoders,
    readable_errors,
    require,
)


def plot(
    file: Annotated[Path, typer.Argument(help="An audio file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Picture, .png, .svg or .pdf; FILE.png by default.", show_default=False),
    ] = None,
    effort: Effort = EffortOption.BALANCED,
    taxonomy: TaxonomyName = "",
    model: Model = None,
    config: Config = None,
) -> None:
    """Draw the waveform, what the model sees of it, its answers over time, and the genres."""
    require("plot")
    from acousticsense.picture import SUFFIXES, draw

    path = out or Path(file.name + ".png")
    if path.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"--out is {path}, known endings are {', '.join(SUFFIXES)}")
    with readable_errors(), quiet_decoders():
        from acoustic.request import RequestOptions
        from acousticsense.inputs import read_file
        from acousticsense.loading import open_pipeline
        from deployments.config import BUILT_IN
        from deployments.taxonomies import taxonomy_name

        pipeline = open_pipeline(config, model or BUILT_IN, taxonomy=taxonomy)
        name = taxonomy_name(taxonomy)
        n_genres = len(pipeline.postprocessor.labels_of(name))
        audio = read_file(file)
        options = RequestOptions(
            effort=effort.value, top_k=n_genres, timeline=True, taxonomy=name,
            file=str(file)[-255:],
        )  # fmt: skip
        answer = pipeline.classify(audio, options)
        # the windows that effort auto evaluates are some of those of thorough
        shown = "thorough" if effort is EffortOption.AUTO else effort.value
        features = pipeline.preprocessor.process(audio, shown)  # type: ignore[arg-type]
        draw(path, audio, features, answer, pipeline.preprocessor.config.mel)
    typer.echo(f"{path}: {answer.genre} {answer.confidence:.0%}")
