"""`acousticsense watch`: classifies what arrives in a folder, and writes tags if that is wanted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from acousticsense.tagging.policy import Policy
    from acousticsense.watching import Answered

JOURNAL_SUFFIX = ".journal.jsonl"


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that is watched.")],
    out: Annotated[
        Path, typer.Option(help="JSON lines with every answer; a restart continues from it.")
    ],
    every_s: Annotated[
        float,
        typer.Option(
            "--every",
            min=0.1,
            help="Seconds between two looks. A file is taken when it is the same at two looks.",
        ),
    ] = 10.0,
    tag: Annotated[bool, typer.Option("--tag", help="Write genres into the files.")] = False,
    min_confidence: Annotated[
        float, typer.Option(help="With --tag: smallest probability of a genre that is written.")
    ] = 0.6,
    keep_existing: Annotated[
        bool, typer.Option("--keep-existing", help="With --tag: leave files that have a genre.")
    ] = False,
    effort: Effort = EffortOption.BALANCED,
    taxonomy: TaxonomyName = "",
    model: Model = None,
    config: Config = None,
) -> None:
    """Classify what arrives in a folder until it is stopped by Ctrl-C or SIGTERM.

    Files that were there before are classified too, unless OUT has an answer about them. With
    --tag, changes are in the journal OUT.journal.jsonl, which `tag --undo` takes.
    """  # fmt: skip
    if tag:
        require("tags")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with readable_errors(), settings(), quiet_decoders():
        from acousticsense.classifier import Classifier
        from acousticsense.watching import Results, Watch
        from deployments.config import BUILT_IN

        after = _tagger(out, min_confidence, keep_existing) if tag else lambda answered: None
        with (
            closing(Results(out)) as results,
            Classifier(model or BUILT_IN, taxonomy=taxonomy, config=config) as classifier,
        ):
            watched = Watch(folder, results, classifier, after=after, effort=effort.value)
            typer.echo(f"watching {folder}: stop it with Ctrl-C", err=True)
            while not stop.is_set():
                for answered in watched.look():
                    typer.echo(_line(answered))
                    if stop.is_set():
                        break
                stop.wait(every_s)


def _tagger(out: Path, min_confidence: float, keep_existing: bool) -> Callable[[Answered], None]:
    from acousticsense.tagging.journal import Journal
    from acousticsense.tagging.policy import Policy

    policy = Policy(min_confidence=min_confidence, keep_existing=keep_existing)
    journal = Journal(out.with_name(out.name + JOURNAL_SUFFIX))
    return lambda answered: _write_tag(answered, policy, journal.apply)


def _write_tag(
    answered: Answered, policy: Policy, apply: Callable[[Path, tuple[str, ...]], object]
) -> None:
    from acoustic.errors import AcousticError
    from acousticsense.tagging.files import read_genres
    from acousticsense.tagging.policy import evidence_of

    if isinstance(answered.result, AcousticError):
        return
    try:
        new, _ = policy.decide(evidence_of(answered.result.to_dict()), read_genres(answered.path))
        if new:
            apply(answered.path, new)
    except AcousticError as error:  # the answer stays; the file keeps its tag
        typer.echo(f"{answered.path}: {error.message}", err=True)


def _line(answered: Answered) -> str:
    from acoustic.errors import AcousticError
    from acoustic.file_walk import printable

    result = answered.result
    if isinstance(result, AcousticError):
        return f"{printable(str(answered.path))}\t{result.code}: {result.message}"
    review = " (look at it)" if result.needs_review else ""
    return f"{printable(str(answered.path))}\t{result.genre} {result.confidence:.0%}{review}"
