"""Finds recordings that are in a data set twice, by their content.

Copies under other names leak from training into validation, and a recording with two genres teaches
both. Only files of the same size can be copies, so few of them are read for their hash.

Source: Sturm, The GTZAN dataset (2013), which found both in the most used data set of genres.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from acoustic.data.sources import Row
from acoustic.labels import same_genre

logger = logging.getLogger(__name__)

MAX_NAMED = 5


def with_contents(rows: Sequence[Row]) -> list[Row]:
    """The rows, with the hash of the content where another row's file has as many bytes."""
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.path is not None:
            try:
                by_size[row.path.stat().st_size].append(i)
            except OSError:
                continue  # reading it later gives the error
    found = list(rows)
    hashes: dict[Path, str] = {}
    for same in by_size.values():
        for i in same if len(same) > 1 else ():
            path = rows[i].path
            assert path is not None
            if path not in hashes:
                hashes[path] = _hash(path)
            found[i] = replace(rows[i], content=hashes[path])
    n_copies = sum(1 for row in found if row.content) - len({r.content for r in found if r.content})
    if n_copies:
        logger.warning(
            "%d recordings are copies of others by their content: each stays on one side of the "
            "split with its copies", n_copies,
        )  # fmt: skip
    return found


def list_two_genres(rows: Sequence[Row]) -> int:
    """List recordings that have two genres, as a warning; they teach both, so labels are wrong.

    Args:
        rows: rows as from `with_contents`.

    Returns:
        Number of rows whose recording has another genre in an earlier row.
    """
    first: dict[str, Row] = {}
    pairs = []
    for row in rows:
        for key in _recording_keys(row):
            other = first.setdefault(key, row)
            if not same_genre(other.genre, row.genre):
                pairs.append(f"{other.file!r} ({other.genre}) and {row.file!r} ({row.genre})")
                break
    if pairs:
        more = f", and {len(pairs) - MAX_NAMED} more" if len(pairs) > MAX_NAMED else ""
        logger.warning(
            "%d recordings have two genres: %s%s; keep one genre of each",
            len(pairs), "; ".join(pairs[:MAX_NAMED]), more,
        )  # fmt: skip
    return len(pairs)


def _recording_keys(row: Row) -> list[str]:
    keys = [f"content {row.content}"] if row.content else []
    return keys + ([f"path {row.path}"] if row.path is not None else [])


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
