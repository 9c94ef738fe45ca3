"""What people said, merged into a manifest that `train` and `calibrate` take."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acoustic import text_tables
from acoustic.data.manifest import COLUMNS
from acoustic.errors import ConfigError
from acoustic.labels import LabelSet
from acousticsense.review.queue import FROM_NAME

FILE, GENRE, GROUP, SPLIT = "file", "genre", "group", "split"


@dataclass(slots=True)
class Merged:
    """A manifest, and what did not get into it.

    Attributes:
        rows: rows of the manifest, in order; files relative to it.
        columns: names of its columns.
        n_new: number of files that were not in it before.
        n_changed: number of files whose genre changed.
        problems: sentences about answers that were left out.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    columns: list[str] = field(default_factory=lambda: [FILE, GENRE, GROUP])
    n_new: int = 0
    n_changed: int = 0
    problems: list[str] = field(default_factory=list)


def read_corrections(path: Path) -> Iterator[tuple[str, str]]:
    """Files and the genres that a person named.

    Args:
        path: a table with columns file and genre (a filled-in queue, a manifest of the page, a CSV
            export of Label Studio), or a JSON export of Label Studio.

    Yields:
        Name of a file and a genre; what nobody has answered is left out.

    Raises:
        ConfigError: it cannot be read, or is of another form.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".json":
            yield from _label_studio(json.loads(content))
            return
        rows = text_tables.read_csv(content).rows
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{path} is not a Label Studio export") from error
    for row in rows:
        named = _column(row, "path")
        if named is None or GENRE not in row:
            raise ConfigError(f"{path} has no columns file and genre, but {', '.join(row)}")
        if row[GENRE].strip():
            yield row[named], row[GENRE].strip()


def merge(
    out: Path,
    answers: Sequence[tuple[str, str]],
    labels: LabelSet | None,
    root: Path | None = None,
    split: str = "",
) -> Merged:
    """The manifest with the answers in it; nothing is written.

    A later answer about a file takes the place of an earlier one. The group of a new file is its
    folder, so that an album stays on one side of a split; files in `root` itself have none.

    Args:
        out: the manifest; its rows are kept where it exists.
        answers: files and genres.
        labels: genres of the model, whose aliases become its names; None to take any name.
        root: folder in which relative names are looked for; None for the working directory.
        split: split of new files, "train" or "valid"; "" for none.

    Raises:
        ConfigError: the manifest cannot be read.
    """
    root = (root or Path.cwd()).resolve()
    base = out.resolve().parent
    merged = Merged()
    if out.exists():
        _read_manifest(out, merged)
    if split and SPLIT not in merged.columns:
        merged.columns.append(SPLIT)
        merged.rows = [{**row, SPLIT: ""} for row in merged.rows]
    file_column = next(name for name in merged.columns if name in COLUMNS["path"])
    by_path = {str((base / row[file_column]).resolve()): row for row in merged.rows}
    for file, named in answers:
        path = (root / file).resolve()
        if not path.is_file():
            merged.problems.append(f"{file} is not there: looked for {path}")
            continue
        if labels is not None and named not in labels:
            merged.problems.append(f"{file}: the model has no genre {named!r}")
            continue
        label = named if labels is None else labels.names[labels.index(named)]
        row = by_path.get(str(path))
        if row is None:
            row = dict.fromkeys(merged.columns, "")
            row[file_column] = os.path.relpath(path, base)
            row[GROUP] = _group(path, root)
            if split:
                row[SPLIT] = split
            by_path[str(path)] = row
            merged.rows.append(row)
            merged.n_new += 1
        elif row[GENRE] != label:
            merged.n_changed += 1
        row[GENRE] = label
    return merged


def write_manifest(path: Path, merged: Merged) -> None:
    """Write the manifest, in one step: it is complete or as it was.

    Raises:
        ConfigError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, merged.columns)
            writer.writeheader()
            writer.writerows(merged.rows)
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _read_manifest(path: Path, merged: Merged) -> None:
    try:
        table = text_tables.read_csv(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if GENRE not in table.columns or not set(COLUMNS["path"]) & set(table.columns):
        raise ConfigError(f"{path} is not a manifest: it needs the columns file and genre")
    merged.columns = [*table.columns, *([] if GROUP in table.columns else [GROUP])]
    merged.rows = [{name: row.get(name, "") for name in merged.columns} for row in table.rows]


def _group(path: Path, root: Path) -> str:
    folder = path.parent
    if folder == root:
        return ""
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)


def _column(row: dict[str, str], name: str) -> str | None:
    return next((known for known in COLUMNS[name] if known in row), None)


def _label_studio(tasks: Any) -> Iterator[tuple[str, str]]:
    """From the form JSON, with annotations, or JSON_MIN, with the choice itself."""
    for task in tasks:
        if "annotations" not in task:
            if genre := task.get(FROM_NAME):
                yield task[FILE], genre
            continue
        done = [each for each in task["annotations"] if not each.get("was_cancelled")]
        for annotation in done[-1:]:  # the last one, where several people answered
            for result in annotation["result"]:
                if result.get("from_name") == FROM_NAME:
                    yield task["data"][FILE], result["value"]["choices"][0]
