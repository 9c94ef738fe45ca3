"""`acousticsense tag`: writes genres into the tags of files, and takes them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    settings,
)

if TYPE_CHECKING:
    from acousticsense.tagging.journal import Journal
    from acousticsense.tagging.policy import Policy

SIDECAR = ".genre.json"
HEADER = ("file", "old", "new", "note")


def tag(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Audio files and folders of them.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Change the files; without it only say what would be.")
    ] = False,
    sidecar: Annotated[
        bool,
        typer.Option("--sidecar", help=f"Write FILE{SIDECAR} beside every file, leave it alone."),
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option("--from", help="Answers of `batch` or `classify`, instead of classifying."),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(help="Smallest probability of a genre that is written.")
    ] = 0.6,
    set_size: Annotated[
        int, typer.Option(help="Also write all genres of prediction sets up to this size.")
    ] = 0,
    max_tags: Annotated[
        int | None, typer.Option(help="With --set-size: write only the first of them.")
    ] = None,
    keep_existing: Annotated[
        bool, typer.Option("--keep-existing", help="Leave files that have a genre alone.")
    ] = False,
    journal: Annotated[
        Path | None, typer.Option(help="File of the changes; genres-DATE.jsonl by default.")
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="JOURNAL", help="Put back the genres from before.")
    ] = None,
    effort: Effort = EffortOption.BALANCED,
    taxonomy: TaxonomyName = "",
    model: Model = None,
    config: Config = None,
) -> None:
    """Write genres into the tags of files: first a table of what would change, then --write.

    Only genres that are sure enough are written; sounds that are not music never get one. Every
    change is in a journal, and --undo puts the old genre back where the file still has the new one.
    """
    require("tags")
    if undo is not None:
        with readable_errors():
            raise typer.Exit(_undo(undo))
    if bool(paths) == bool(results):
        raise typer.BadParameter("name files and folders, or results with --from")
    with readable_errors(), settings(), quiet_decoders():
        from acousticsense.results import read_answers
        from acousticsense.tagging.journal import Journal
        from acousticsense.tagging.policy import Policy

        policy = Policy(
            min_confidence=min_confidence,
            set_size=set_size,
            max_tags=max_tags,
            keep_existing=keep_existing,
        )
        answers = (
            read_answers(results)
            if results is not None
            else _classified(paths or [], effort.value, taxonomy, model, config)
        )
        name = f"genres-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
        raise typer.Exit(_tag(answers, policy, Journal(journal or Path(name)), write, sidecar))


def _tag(
    answers: Iterator[tuple[str, dict[str, Any]]],
    policy: Policy,
    journal: Journal,
    write: bool,
    sidecar: bool,
) -> int:
    """Decide about every answer and carry it out; returns the exit code."""
    from acoustic.errors import AcousticError
    from acousticsense.tagging.files import read_genres
    from acousticsense.tagging.policy import evidence_of

    n_changed = n_failed = 0
    typer.echo("\t".join(HEADER))
    for file, body in answers:
        old: tuple[str, ...] = ()
        new: tuple[str, ...] = ()
        try:
            if "error" in body:
                note, is_failure = body["error"], True
            elif sidecar:
                note, is_failure = _sidecar(Path(file), body, write), False
            else:
                old = read_genres(Path(file))
                new, note = policy.decide(evidence_of(body), old)
                is_failure = False
                if new and write:
                    journal.apply(Path(file), new)
        except AcousticError as error:
            new, note, is_failure = (), error.message, True
        n_changed += bool(new)
        n_failed += is_failure
        cells = (file, "; ".join(old), "; ".join(new), note)
        typer.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells))
    _conclude(n_changed, n_failed, journal.path, write, sidecar)
    return 1 if n_failed else 0


def _conclude(n_changed: int, n_failed: int, journal: Path, write: bool, sidecar: bool) -> None:
    if not write:
        typer.echo("nothing was changed: add --write", err=True)
    elif n_changed:
        typer.echo(
            f"{n_changed:,} files changed; take it back with: acousticsense tag --undo {journal}",
            err=True,
        )
    elif not sidecar:
        typer.echo("no file changed", err=True)
    if n_failed:
        typer.echo(f"{n_failed:,} files failed", err=True)


def _sidecar(file: Path, body: dict[str, Any], write: bool) -> str:
    path = file.with_name(file.name + SIDECAR)
    if write:
        from acoustic.errors import FileUnreadableError

        try:
            path.write_text(json.dumps(body, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise FileUnreadableError(f"{path} cannot be written: {error.strerror}") from error
    return str(path.name)


def _undo(path: Path) -> int:
    from acousticsense.tagging.journal import read_journal, undo

    n_back = 0
    changes = read_journal(path)
    for change in reversed(changes):  # the newest first, where a file was changed twice
        reason = undo(change)
        n_back += not reason
        what = reason or f"{', '.join(change.new)} → {', '.join(change.old) or 'no genre'}"
        typer.echo(f"{change.file}\t{what}")
    typer.echo(f"{n_back:,} of {len(changes):,} changes taken back", err=True)
    return 0


def _classified(
    paths: list[Path], effort: str, taxonomy: str, model: Path | None, config: Path | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files and their answers, classified here."""
    from acoustic.errors import AcousticError
    from acousticsense.classifier import Classifier
    from acousticsense.inputs import expand
    from deployments.config import BUILT_IN

    files = list(expand(list(paths)))
    with Classifier(model or BUILT_IN, taxonomy=taxonomy, config=config) as classifier:
        outcomes = classifier.classify_many(files, effort=effort)  # type: ignore[arg-type]
        for file, outcome in zip(files, outcomes, strict=True):
            failed = isinstance(outcome, AcousticError)
            yield str(file), {"error": outcome.message} if failed else outcome.to_dict()  # type: ignore[union-attr]
