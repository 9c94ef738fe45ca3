"""Follows a folder: classifies what arrives, once it is complete, and remembers what it has done.

A file is taken when it has the same size and time of change at two looks in a row: a copy that is
under way is left alone. What was answered is in the results themselves, so that a restart begins
where it ended. Looking works on every file system, network shares included, where notifications do
not.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from acoustic.errors import AcousticError, ConfigError
from acoustic.file_walk import walk_files
from acoustic.prediction import Prediction
from acousticsense.classifier import Classifier

WATCHED = "watched"
"""Key of a line with the state of its file: `size_bytes` and `mtime_ns`."""

State = tuple[int, int]
"""Size in bytes and time of change in nanoseconds of a file."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One file that was looked at.

    Attributes:
        path: the file.
        result: its prediction, or the error that takes its place.
    """

    path: Path
    result: Prediction | AcousticError


class Results:
    """JSON lines with an answer, or an error, about every file and the state that it had.

    Only one process may have it open.

    Args:
        path: file; created.

    Attributes:
        known: file → state of the last line about it.

    Raises:
        ConfigError: it cannot be opened, is of another kind, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise ConfigError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(f"{path} is in use by another `acousticsense watch`") from error
        try:
            self.known = self._read()
        except ConfigError:
            self._file.close()
            raise

    def add(self, file: Path, result: Prediction | AcousticError, state: State) -> None:
        """Write one line, to the disk.

        Args:
            file: absolute path.
            result: prediction or error.
            state: size and time of change that the answer is about.
        """
        if isinstance(result, Prediction):
            body = result.to_dict()
        else:
            body = {"error": {"code": result.code, "message": result.message}}
        line = {**body, "file": str(file), WATCHED: {"size_bytes": state[0], "mtime_ns": state[1]}}
        self._file.write(json.dumps(line).encode() + b"\n")  # ASCII: a name may be no valid UTF-8
        self._file.flush()
        os.fsync(self._file.fileno())
        self.known[str(file)] = state

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    def _read(self) -> dict[str, State]:
        self._file.seek(0)
        known: dict[str, State] = {}
        end = 0
        for line in self._file:
            is_whole = line.endswith(b"\n")
            try:
                row: dict[str, Any] = json.loads(line)
                state = row[WATCHED]
                found = (state["size_bytes"], state["mtime_ns"])
                if is_whole:
                    known[row["file"]] = found
            except (ValueError, KeyError, TypeError) as error:
                is_cut = isinstance(error, ValueError) and line.startswith(b'{"')
                if is_whole or not is_cut:
                    raise ConfigError(
                        f"{self.path} holds other lines than `watch` writes"
                    ) from error
            if not is_whole:
                break  # cut off when the process died: written again
            end += len(line)
        self._file.truncate(end)
        return known


class Watch:
    """Looks at a folder again and again.

    Args:
        folder: folder, with all below it.
        results: what was answered.
        classifier: answers.
        after: called about every answer before it is written, such as to write a tag.
        effort: windows evaluated; see `Classifier.classify`.

    Raises:
        ConfigError: the folder does not exist.
    """

    def __init__(
        self,
        folder: Path,
        results: Results,
        classifier: Classifier,
        *,
        after: Callable[[Answered], None] = lambda answered: None,
        effort: Any = "balanced",
    ) -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder")
        self._folder = folder.absolute()
        self._results, self._classifier = results, classifier
        self._after, self._effort = after, effort
        self._seen: dict[str, State] = {}

    def look(self) -> Iterator[Answered]:
        """Answer about the files that are new and complete; to be called again and again."""
        states = self._states()
        new = {path: state for path, state in states.items() if self._is_new(path, state)}
        ready = [path for path, state in new.items() if self._seen.get(path) == state]
        self._seen = new
        results = self._classifier.classify_many([Path(p) for p in ready], effort=self._effort)
        for path, result in zip(ready, results, strict=True):
            if _state(path) != new[path]:
                continue  # it has changed meanwhile: the next look begins with it
            answered = Answered(Path(path), result)
            self._after(answered)
            state = _state(path)  # a change made by `after` does not count as a new version
            self._results.add(Path(path), result, state or new[path])
            yield answered

    def _is_new(self, path: str, state: State) -> bool:
        return self._results.known.get(path) != state

    def _states(self) -> dict[str, State]:
        found = ((path, _state(path)) for path in walk_files(self._folder).paths)
        return {path: state for path, state in found if state is not None}


def _state(path: str) -> State | None:
    """None if it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
