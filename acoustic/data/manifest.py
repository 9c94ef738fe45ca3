"""Reads the manifest of a data set: a CSV or Parquet table with one row per recording."""

from __future__ import annotations

from pathlib import Path

from acoustic import text_tables
from acoustic.errors import ConfigError

COLUMNS = {
    "path": ("path", "file"),
    "index": ("index",),
    "genre": ("genre",),
    "group": ("group", "artist_group"),
    "collection": ("collection",),
    "split": ("split",),
    "track": ("track", "gtzan_clip", "clip"),
    "kind": ("kind",),
    "original": ("original",),
}
"""Column name in this module → names accepted in a manifest."""


def read_table(
    path: Path, required: tuple[str, ...], collection: str | None = None
) -> list[dict[str, str]]:
    """Read a CSV or Parquet table as rows with the keys of COLUMNS, "" for empty cells.

    Args:
        path: .parquet file, or CSV as `text_tables.read_csv` takes it. The case of the names of
            columns does not matter.
        required: keys of COLUMNS that every row must fill.
        collection: another name of the column of collections; it need not be there.

    Raises:
        ConfigError: the table cannot be read, has no row, or lacks a required column or cell.
    """
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if not rows:
        raise ConfigError(f"{path.name} has no rows")
    written = {name.strip().casefold(): name for name in rows[0]}
    accepted = dict(COLUMNS)
    if collection is not None:
        accepted["collection"] = (collection.strip().casefold(), *COLUMNS["collection"])
    names = {
        column: next((written[name] for name in known if name in written), None)
        for column, known in accepted.items()
    }
    for column in required:
        if names[column] is None:
            raise ConfigError(
                f"{path.name} has no column {' or '.join(COLUMNS[column])}, but "
                f"{', '.join(rows[0])}"
            )
    found = [
        {column: (row.get(name) or "").strip() if name else "" for column, name in names.items()}
        for row in rows
    ]
    for number, columns in enumerate(found, start=1):
        empty = [column for column in required if not columns[column]]
        if empty:
            raise ConfigError(f"row {number} of {path.name} has no {empty[0]}")
    return found


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        return text_tables.read_csv(path.read_bytes()).rows
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read as CSV: {error}") from error


def _read_parquet(path: Path) -> list[dict[str, str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path.name} cannot be read as Parquet: {error}") from error
    return [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in table.to_pylist()
    ]
