"""`acousticsense classify FILES…`: in process, without Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from acousticsense.cli.options import (
    Config,
    ContentDigest,
    Effort,
    EffortOption,
    Model,
    TaxonomyName,
    quiet_decoders,
    readable_errors,
    require,
)
from acousticsense.cli.tables import (
    FORMATS,
    NOT_MUSIC_TEXT,
    CsvWriter,
    JsonLinesWriter,
    ParquetWriter,
    TsvWriter,
    Writer,
    existing_files,
)

if TYPE_CHECKING:
    from acoustic.errors import AcousticError
    from acoustic.prediction import Prediction
    from acoustic.request import RequestOptions

STDIN = "-"


class FormatOption(StrEnum):
    """How results are written."""

    TABLE = "table"
    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class _Input:
    """One file to classify.

    Attributes:
        name: path as valid text; "-" for standard input.
        path: path in the file system, "" for standard input.
    """

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class _Output:
    """Where results go.

    Attributes:
        path: file for them; None for standard output.
        format: one of FormatOption.
        may_exist: whether rows are added to an existing file.
    """

    path: Path | None
    format: str
    may_exist: bool


@dataclass(frozen=True, slots=True)
class _Answers:
    """Where answers come from.

    Attributes:
        genres: names of all genres, for the width of a column.
        many: inputs → for each, in order, its answer or its error.
    """

    genres: Sequence[str]
    many: Callable[[Iterator[Path | bytes]], Iterator[Prediction | AcousticError]]


def classify(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…", help="Audio files, folders of them, or - for standard input."
        ),
    ],
    effort: Effort = EffortOption.BALANCED,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Genres per file; in a table and tsv the set by default, else 5."),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Coverage of the prediction set, 0.50 to 0.99; 0.9 by default."),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="List the best genre of every window.")
    ] = False,
    format: Annotated[
        FormatOption | None,
        typer.Option(help="By default a table on a terminal, tsv elsewhere, or as --out ends."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the results.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Add to --out the files that it does not have.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that decode and run the model; up to 4 by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format jsonl.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Same as --format csv.")] = False,
    taxonomy: TaxonomyName = "",
    content_digest: ContentDigest = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a running service, not a model in this process."),
    ] = None,
    model: Model = None,
    config: Config = None,
) -> None:
    """Classify audio files by genre.

    A file that cannot be read is reported, and the others are processed. "Could be" has the other
    genres of the prediction set, "review" the reasons why a person should check the answer.
    """
    chosen = _format(format, as_json, as_csv, out)
    if skip_existing and out is None:
        raise typer.BadParameter("--skip-existing needs --out")
    if top_k is not None and chosen == "csv":
        raise typer.BadParameter("--top-k has no column in csv: choose tsv, jsonl or parquet")
    if content_digest and chosen in ("table", "tsv"):
        raise typer.BadParameter(
            f"--content-digest has no column in {chosen}: choose csv, jsonl or parquet"
        )
    own = {"--model": model, "--config": config, "--content-digest": content_digest or None}
    if server and (named := [name for name, value in own.items() if value is not None]):
        raise typer.BadParameter(f"{named[0]} is for a model in this process, not for --server")
    if sys.stderr.isatty() and not server:
        typer.echo("loading the model …", err=True)
    if chosen == "parquet":
        require("batch")
    with readable_errors(), quiet_decoders():
        from acoustic.request import RequestOptions

        inputs = _inputs(files)
        options = RequestOptions(
            effort=effort.value, top_k=top_k, coverage=coverage, timeline=timeline,
            taxonomy=taxonomy,
        )  # fmt: skip
        output = _Output(out, chosen, skip_existing)
        opened = (
            _remote(server, options, workers)
            if server
            else _local(options, workers, model, config, content_digest)
        )
        n_failed = _classify(inputs, options, output, opened)
    raise typer.Exit(1 if n_failed else 0)


@contextmanager
def _local(
    options: RequestOptions,
    workers: int | None,
    model: Path | None,
    config: Path | None,
    content_digest: bool,
) -> Iterator[_Answers]:
    """Answers of a model in this process."""
    from acousticsense.classifier import Classifier
    from deployments.config import BUILT_IN

    with Classifier(
        model or BUILT_IN,
        taxonomy=options.taxonomy,
        config=config,
        content_digest=content_digest,
    ) as classifier:
        many = partial(
            classifier.classify_many, workers=workers, effort=options.effort, top_k=options.top_k,
            coverage=options.coverage, timeline=options.timeline,
        )  # fmt: skip
        yield _Answers(classifier.labels, many)


@contextmanager
def _remote(url: str, options: RequestOptions, workers: int | None) -> Iterator[_Answers]:
    """Answers of a running service."""
    from acousticsense.client import CONCURRENCY, Client

    with Client(url) as client:
        many = partial(
            client.classify_many, concurrency=workers or CONCURRENCY, effort=options.effort,
            top_k=options.top_k, coverage=options.coverage, timeline=options.timeline,
            taxonomy=options.taxonomy,
        )  # fmt: skip
        yield _Answers(client.labels, many)


def _classify(
    inputs: list[_Input],
    options: RequestOptions,
    output: _Output,
    opened: AbstractContextManager[_Answers],
) -> int:
    """Classify the inputs that have no row yet and write them; returns how many failed."""
    known, table = _known(output, options.timeline)
    # standard input is another file each time
    inputs = [each for each in inputs if each.name not in known or not each.path]
    has_header = output.path is not None and output.path.exists() and output.path.stat().st_size > 0
    n_failed = 0
    with (
        opened as answers,
        _opened(output, inputs, has_header, table, options, answers.genres) as writer,
    ):
        outcomes = answers.many(_content(each) for each in inputs)
        for each, outcome in zip(inputs, outcomes, strict=True):
            n_failed += isinstance(outcome, Exception)
            writer.write(each.name, outcome)
    if n_failed:
        typer.echo(f"{n_failed:,} of {len(inputs):,} files failed", err=True)
    if known:
        added = "1 file" if len(inputs) == 1 else f"{len(inputs):,} files"
        typer.echo(f"{added} added to {output.path}", err=True)
    return n_failed


def _format(format: FormatOption | None, as_json: bool, as_csv: bool, out: Path | None) -> str:
    """The format by the options, by the end of --out, or by where standard output goes."""
    named = [format.value] if format else []
    named += ["jsonl"] * as_json + ["csv"] * as_csv
    if len(set(named)) > 1:
        raise typer.BadParameter(f"choose one format of {', '.join(named)}")
    if named:
        chosen = named[0]
    elif out is not None:
        if out.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise typer.BadParameter(f"--out ends with none of {known}: add --format")
        chosen = FORMATS[out.suffix.lower()]
    else:
        chosen = "table" if sys.stdout.isatty() else "tsv"
    if chosen == "parquet" and out is None:
        raise typer.BadParameter("parquet is not text: add --out FILE.parquet")
    if chosen == "table" and out is not None:
        raise typer.BadParameter("a table is for the terminal: choose tsv for --out")
    return chosen


def _inputs(files: Sequence[Path]) -> list[_Input]:
    """All files, those of folders in the order of their names; says how many were left out."""
    from acoustic.errors import FileUnreadableError, InvalidOptionError
    from acoustic.file_walk import printable, walk_files

    found: dict[str, _Input] = {}  # a file that is named twice has one row
    n_skipped = 0
    for each in files:
        if str(each) == STDIN:
            found[STDIN] = _Input(STDIN, "")
        elif each.is_dir():
            try:
                listed = walk_files(each)
            except OSError as error:
                raise FileUnreadableError(f"{each} cannot be listed: {error.strerror}") from error
            n_skipped += listed.n_skipped
            for path in listed.paths:
                found.setdefault(path, _Input(printable(path), path))
        else:
            found.setdefault(str(each), _Input(printable(str(each)), str(each)))
    if n_skipped:
        files_skipped = "1 other file" if n_skipped == 1 else f"{n_skipped:,} other files"
        typer.echo(f"{files_skipped} skipped: not audio by the ends of the names", err=True)
    if not found:
        raise InvalidOptionError("the given folders have no audio file")
    return list(found.values())


def _content(each: _Input) -> Path | bytes:
    return Path(each.path) if each.path else sys.stdin.buffer.read()


def _known(output: _Output, timeline: bool) -> tuple[set[str], object]:
    """Names that --out has a row for; an existing file is only added to where that is wanted."""
    from acoustic.errors import ConfigError

    out = output.path
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"{out} cannot be written: there is no folder {out.parent}")
    if out is None or not out.exists():
        return set(), None
    if not output.may_exist:
        raise ConfigError(f"{out} exists: choose another --out, or --skip-existing to add to it")
    try:
        return existing_files(out, output.format, timeline)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{out} cannot be read as {output.format}: {error}") from error


@contextmanager
def _opened(
    output: _Output,
    inputs: Sequence[_Input],
    is_added: bool,
    table: object,
    options: RequestOptions,
    genres: Sequence[str],
) -> Iterator[Writer]:
    """The writer of a format, on --out or standard output."""
    out, format = output.path, output.format
    if format == "parquet":
        assert out is not None
        writer: Writer = ParquetWriter(out, table, options.timeline)
        try:
            yield writer
        finally:  # what is done is kept, also after an interrupt
            writer.close()
        return
    if format == "table":
        from rich.console import Console

        from acousticsense.cli.terminal import TerminalWriter

        names = [each.name for each in inputs]
        widest = max(map(len, [*genres, NOT_MUSIC_TEXT]))
        yield TerminalWriter(Console(), names, widest, options.top_k)
        return
    if out is None:
        yield _text_writer(sys.stdout, format, False, options)
        return
    from acoustic.errors import ConfigError

    try:
        stream = out.open("a", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}") from error
    with stream:
        yield _text_writer(stream, format, is_added, options)


def _text_writer(stream: IO[str], format: str, is_added: bool, options: RequestOptions) -> Writer:
    if format == "jsonl":
        return JsonLinesWriter(stream)
    if format == "csv":
        return CsvWriter(stream, not is_added, options.timeline)
    return TsvWriter(stream, not is_added, options.timeline, options.top_k)
