"""Reads and writes the genre in a file's tag; the audio stays to the byte.

A file is never changed in place: a copy beside it gets the tag, is written to the disk, and takes
the file's place in one step, so that a crash leaves either the old file or the new one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acoustic.errors import ConfigError, FileUnreadableError

try:
    import mutagen
    from mutagen.id3 import TCON
    from mutagen.mp4 import MP4
except ImportError as missing:
    raise ConfigError(
        "tags need the package mutagen: pip install 'acousticsense[tags]'"
    ) from missing

ID3_V23, ID3_V24 = 3, 4
MP4_GENRE = "\xa9gen"


def read_genres(path: Path) -> tuple[str, ...]:
    """Genres in the tag of a file, () without any.

    Raises:
        FileUnreadableError: the file cannot be read, or its tag is of no known form.
    """
    return _genres(_opened(path))


def write_genres(path: Path, genres: Sequence[str]) -> None:
    """Replace the genres in a file's tag.

    Args:
        path: file; what a link points to is changed, the link stays.
        genres: new genres; none removes them.

    Raises:
        FileUnreadableError: the file cannot be read or written.
    """
    path = Path(os.path.realpath(path))
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=".acousticsense-", suffix=path.suffix
        )
        os.close(handle)
        copy = Path(name)
        try:
            shutil.copy2(path, copy)
            _set_genres(_opened(copy), copy, genres)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(copy, path)
        finally:
            copy.unlink(missing_ok=True)
    except OSError as error:
        raise FileUnreadableError(f"{path} cannot be written: {error.strerror}") from error


def _opened(path: Path) -> Any:
    try:
        file = mutagen.File(path)
    except (mutagen.MutagenError, OSError, ValueError, KeyError, IndexError) as error:
        raise FileUnreadableError(f"the tag of {path} cannot be read: {error}") from error
    if file is None:
        raise FileUnreadableError(f"the tag of {path} is of no known form")
    return file


def _genres(file: Any) -> tuple[str, ...]:
    tags = file.tags
    if tags is None:
        return ()
    if isinstance(file, MP4):
        return tuple(tags.get(MP4_GENRE, ()))
    if _is_id3(file):
        frame = tags.get("TCON")
        return tuple(frame.genres) if frame is not None else ()
    return tuple(tags.get("genre", ()))


def _set_genres(file: Any, path: Path, genres: Sequence[str]) -> None:
    if file.tags is None:
        file.add_tags()
    tags = file.tags
    if isinstance(file, MP4):
        _put(tags, "gnre", [])  # the old form: a number of a fixed list
        _put(tags, MP4_GENRE, list(genres))
        file.save(path)
    elif _is_id3(file):
        # a player that only knows version 2.3 keeps reading the file
        version = ID3_V23 if getattr(tags, "version", (2, 4))[:2] == (2, 3) else ID3_V24
        tags.delall("TCON")
        if genres:
            tags.add(TCON(encoding=3 if version == ID3_V24 else 1, text=list(genres)))
        if version == ID3_V23:
            tags.update_to_v23()
        file.save(path, v2_version=version, v23_sep="/")
    else:
        _put(tags, "genre", list(genres))
        file.save(path)


def _put(tags: Any, name: str, values: list[str]) -> None:
    if values:
        tags[name] = values
    elif name in tags:
        del tags[name]


def _is_id3(file: Any) -> bool:
    """MP3, WAV and AIFF have ID3 tags."""
    return hasattr(file.tags, "getall")
