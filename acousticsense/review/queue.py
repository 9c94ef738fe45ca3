"""Picks the answers that a person should look at, and writes them for a spreadsheet and for Label
Studio.
"""

from __future__ import annotations

import csv
import json
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from acoustic.errors import ConfigError
from acoustic.prediction import LIST_SEPARATOR

TABLE, TASKS, LABELLING = "review.csv", "label_studio.json", "label_studio.xml"
COLUMNS = ("file", "answer", "confidence", "could_be", "reasons", "genre")
"""Columns of the table; the last one is for the person."""

LOCAL_FILES = "/data/local-files/?d="
"""Start of the address of a local file in Label Studio, before its path below the served folder."""

FROM_NAME, TO_NAME = "genre", "audio"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One answer that a person should look at.

    Attributes:
        file: name or path of the file.
        answer: the model's genre.
        confidence: its calibrated probability, in [0, 1].
        could_be: genres of the prediction set.
        reasons: codes of the reasons.
    """

    file: str
    answer: str
    confidence: float
    could_be: tuple[str, ...]
    reasons: tuple[str, ...]


def to_review(
    rows: Iterable[tuple[str, dict[str, str]]],
    *,
    everything: bool = False,
    limit: int | None = None,
) -> list[Item]:
    """The answers that need a person, the least sure first.

    Args:
        rows: files and flat rows of their answers.
        everything: whether answers that need nobody are taken too.
        limit: most answers that are taken; None for all.
    """
    found = [
        Item(
            file=file,
            answer=str(row["top_genre"]),
            confidence=float(row.get("confidence") or 0.0),
            could_be=_names(row.get("prediction_set")),
            reasons=_names(row.get("reasons")),
        )
        for file, row in rows
        if everything or str(row.get("needs_review")).casefold() == "true"
    ]
    return sorted(found, key=lambda item: (item.confidence, item.file))[:limit]


def write_queue(
    folder: Path, items: Sequence[Item], genres: Sequence[str], audio_url: str = LOCAL_FILES
) -> None:
    """Write a table, tasks for Label Studio and its labelling configuration.

    Args:
        folder: created; may not hold a queue, which somebody may have worked on.
        items: what is to be looked at.
        genres: what a person can choose from.
        audio_url: start of the address at which a browser finds the files.

    Raises:
        ConfigError: there is a queue, or the folder cannot be written.
    """
    if (folder / TABLE).exists() or (folder / TASKS).exists():
        raise ConfigError(f"{folder} holds a queue already: choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_line(item) for item in items)
        tasks = [_task(item, audio_url) for item in items]
        text = json.dumps(tasks, ensure_ascii=False, indent=1)
        (folder / TASKS).write_text(text + "\n", encoding="utf-8")
        (folder / LABELLING).write_text(_labelling(genres), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error


def _names(cell: object) -> tuple[str, ...]:
    return tuple(filter(None, str(cell or "").split(LIST_SEPARATOR)))


def _line(item: Item) -> list[object]:
    others = LIST_SEPARATOR.join(item.could_be)
    reasons = LIST_SEPARATOR.join(item.reasons)
    return [item.file, item.answer, f"{item.confidence:.4f}", others, reasons, ""]


def _task(item: Item, audio_url: str) -> dict[str, object]:
    choice = {
        "from_name": FROM_NAME, "to_name": TO_NAME, "type": "choices",
        "value": {"choices": [item.answer]},
    }  # fmt: skip
    path = quote(posixpath.normpath(item.file).lstrip("/"))
    return {
        "data": {
            "audio": item.file if "://" in item.file else audio_url + path,
            "file": item.file,
            "could_be": ", ".join(item.could_be),
            "reasons": ", ".join(item.reasons),
        },
        "predictions": [{"result": [choice], "score": round(item.confidence, 4)}],
    }


def _labelling(genres: Sequence[str]) -> str:
    choices = "\n".join(f"    <Choice value={quoteattr(genre)}/>" for genre in genres)
    return (
        "<View>\n"
        '  <Header value="$file"/>\n'
        f'  <Audio name="{TO_NAME}" value="$audio"/>\n'
        '  <Text name="could_be" value="$could_be"/>\n'
        '  <Text name="reasons" value="$reasons"/>\n'
        f'  <Choices name="{FROM_NAME}" toName="{TO_NAME}" choice="single" required="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    )
