"""What was written into files, line by line, and how to take it back.

A line is on the disk before its file changes, so whatever ends the program, the journal knows of
every file that may have changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from acoustic.errors import AcousticError, ConfigError, FileUnreadableError
from acousticsense.tagging.files import read_genres, write_genres


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a file's genres.

    Attributes:
        file: absolute path.
        old: genres before.
        new: genres after.
        at: time, ISO 8601, UTC.
    """

    file: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    at: str


class Journal:
    """A file of changes that is only added to.

    Args:
        path: file; created with its first change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def apply(self, file: Path, new: Sequence[str]) -> None:
        """Note a change and make it.

        Raises:
            FileUnreadableError: the file or the journal cannot be read or written.
        """
        change = Change(
            file=str(file.absolute()),
            old=read_genres(file),
            new=tuple(new),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        line = json.dumps(asdict(change)) + "\n"  # ASCII: a name may hold any line end
        try:
            with self.path.open("ab") as stream:
                # a last line that was cut off by a crash stays one line
                if stream.tell() and not _ends_line(self.path):
                    stream.write(b"\n")
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise FileUnreadableError(
                f"the journal {self.path} cannot be written: {error.strerror}"
            ) from error
        write_genres(file, new)


def read_journal(path: Path) -> list[Change]:
    """The changes in a journal, in order; a line that a crash cut off is left out.

    Raises:
        ConfigError: it cannot be read, or is not a journal.
    """
    try:
        lines = path.read_bytes().decode(errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    changes = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            changes.append(Change(row["file"], tuple(row["old"]), tuple(row["new"]), row["at"]))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines) and not line.startswith("{"):
                raise ConfigError(f"{path} is not a journal: line {number}") from error
    return changes


def undo(change: Change) -> str:
    """Put the old genres back where the file still has the new ones.

    Returns:
        "" if that was done, else why not.
    """
    path = Path(change.file)
    try:
        now = read_genres(path)
        if now == change.old:
            return "not changed"
        if now != change.new:
            return f"changed since: {', '.join(now) or 'no genre'}"
        write_genres(path, change.old)
    except AcousticError as error:
        return error.message
    return ""


def _ends_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
