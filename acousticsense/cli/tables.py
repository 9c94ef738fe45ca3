"""Results of `acousticsense classify` in its formats: for people, for pipes, for programs.

A writer takes results one by one and writes each at once, except for Parquet, whose file is
complete only at the end.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from acoustic.errors import AcousticError
    from acoustic.prediction import Prediction

FORMATS = {
    ".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
"""Suffix of --out → format, where --format is not given."""

TSV_COLUMNS = ("file", "genre", "confidence", "could_be", "review", "error")
NOT_MUSIC_TEXT = "not music"
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Writer(Protocol):
    """Writes results in one format."""

    def write(self, file: str, result: Prediction | AcousticError) -> None:
        """Write one result."""

    def close(self) -> None:
        """Complete the output."""


class TsvWriter:
    """Columns for `cut`, `sort` and spreadsheets: nothing is cut off, one line a file.

    Args:
        stream: text stream to write to.
        with_header: whether to write the names of the columns first.
        with_timeline: whether there is a column with the best genre of every window.
        top_k: see `short_cells`.
    """

    def __init__(
        self, stream: IO[str], with_header: bool, with_timeline: bool, top_k: int | None = None
    ) -> None:
        self._stream = stream
        self._with_timeline, self._top_k = with_timeline, top_k
        if with_header:
            self._line([*TSV_COLUMNS, *(["timeline"] if with_timeline else [])])

    def write(self, file: str, result: Prediction | AcousticError) -> None:
        """Write one line."""
        cells = [file, *short_cells(result, self._top_k)]
        if self._with_timeline:
            cells.append(timeline_text(result))
        self._line(cells)

    def close(self) -> None:
        """Nothing is left to write."""

    def _line(self, cells: list[str]) -> None:
        print("\t".join(cell.translate(_ESCAPES) for cell in cells), file=self._stream, flush=True)


class CsvWriter:
    """All columns of a flat row; see `acoustic.prediction.RESULT_COLUMNS`.

    Args:
        stream: text stream to write to.
        with_header: whether to write the names of the columns first.
        with_timeline: whether there is a column with the best genre of every window.
    """

    def __init__(self, stream: IO[str], with_header: bool, with_timeline: bool) -> None:
        from acoustic.prediction import RESULT_COLUMNS

        self._with_timeline = with_timeline
        names = [*RESULT_COLUMNS, *(["timeline"] if with_timeline else [])]
        self._stream, self._writer = stream, csv.DictWriter(stream, names)
        if with_header:
            self._writer.writeheader()

    def write(self, file: str, result: Prediction | AcousticError) -> None:
        """Write one row."""
        from acoustic.prediction import result_row

        row = result_row(file, result)
        if self._with_timeline:
            row["timeline"] = timeline_text(result)
        self._writer.writerow(row)
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class JsonLinesWriter:
    """The whole answer, one JSON object a line.

    Args:
        stream: text stream to write to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        # another encoding than UTF-8 may lack a character, and its escape would not be JSON's
        self._ascii = (getattr(stream, "encoding", None) or "utf-8").lower().replace(
            "_", "-"
        ) != "utf-8"

    def write(self, file: str, result: Prediction | AcousticError) -> None:
        """Write one line."""
        line = json.dumps(json_body(file, result), ensure_ascii=self._ascii, allow_nan=False)
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


class ParquetWriter:
    """The whole answer, typed; written when all results are there.

    Args:
        path: file to write.
        known: table of results that the file has already, or None.
        with_timeline: whether there is a column with the best genre of every window.
    """

    def __init__(self, path: Path, known: Any, with_timeline: bool) -> None:
        import pyarrow as pa

        from acoustic.prediction import Prediction
        from acoustic.schema import schema_fields
        from deployments.batch.schema import FAILURE, LEFT_OUT, arrow_type

        left_out = set(LEFT_OUT) - ({"timeline"} if with_timeline else set())
        fields = [each for each in schema_fields(Prediction) if each.name not in left_out]
        types = [(each.name, arrow_type(each.hint)) for each in fields]
        self._schema = pa.schema([("file", pa.string()), *types, *FAILURE])
        self._path, self._known, self._rows = path, known, list[dict[str, Any]]()

    def write(self, file: str, result: Prediction | AcousticError) -> None:
        """Keep one row."""
        from acoustic.errors import AcousticError

        row: dict[str, Any] = {"file": file, "error_code": "", "error_message": ""}
        if isinstance(result, AcousticError):
            row |= {"error_code": result.code, "error_message": result.message}
        else:
            row |= {k: v for k, v in result.to_dict().items() if k != "file"}
        self._rows.append(row)

    def close(self) -> None:
        """Write the file, in one step: it is complete or as it was."""
        import pyarrow as pa
        import pyarrow.parquet

        names = self._schema.names
        rows = [{name: row.get(name) for name in names} for row in self._rows]
        table = pa.Table.from_pylist(rows, schema=self._schema)
        if self._known is not None:
            table = pa.concat_tables([self._known, table], promote_options="permissive")
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        pyarrow.parquet.write_table(table, temporary)
        os.replace(temporary, self._path)


def json_body(file: str, result: Prediction | AcousticError) -> dict[str, Any]:
    """The JSON object of a result, with its file first."""
    from acoustic.errors import AcousticError

    if isinstance(result, AcousticError):
        return {"file": file, "error": {"code": result.code, "message": result.message}}
    return {**result.to_dict(), "file": file}


def short_cells(result: Prediction | AcousticError, top_k: int | None) -> list[str]:
    """Genre, confidence, what else it could be, why to review it, and the error, as short text.

    Sounds that are not music have no genre.

    Args:
        result: what is written.
        top_k: number of genres to name with their probabilities; None for the prediction set.
    """
    from acoustic.errors import AcousticError
    from acoustic.prediction import NOT_MUSIC

    if isinstance(result, AcousticError):
        return ["", "", "", "", f"{result.code}: {result.message}"]
    reasons = [reason for reason in result.reasons if reason.code != NOT_MUSIC]
    review = ", ".join(reason.code.replace("_", " ").lower() for reason in reasons)
    if not result.is_music:
        return [NOT_MUSIC_TEXT, "", "", review, ""]
    if top_k is not None:
        scores = result.predictions[1:top_k]
        others = ", ".join(f"{each.genre} {each.probability:.0%}" for each in scores)
    else:
        members = result.prediction_set.genres if result.prediction_set else ()
        others = ", ".join(genre for genre in members if genre != result.top_genre)
    return [result.top_genre, f"{result.confidence:.0%}", others, review, ""]


def timeline_text(result: Prediction | AcousticError) -> str:
    """The best genre of every window as text: "0.0-6.0 Jazz 91%; 6.0-12.0 Blues 55%"."""
    windows = getattr(result, "timeline", None) or ()
    return "; ".join(
        f"{each.start_s:.1f}-{each.end_s:.1f} {each.genre} {each.probability:.0%}"
        for each in windows
    )


def existing_files(path: Path, format: str, with_timeline: bool) -> tuple[set[str], Any]:
    """Names of the files that have a row in a file of results, and for Parquet its table.

    A last line without an end, which an interrupted run has left, is removed from the file.

    Raises:
        ValueError: the file is not of this format, or has other columns.
    """
    if format == "parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
            return set(table["file"].to_pylist()), table
        except (pyarrow.ArrowException, KeyError) as error:
            raise ValueError(str(error)) from error
    _remove_unfinished_line(path)
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line]
    if format == "jsonl":
        return {json.loads(line)["file"] for line in lines}, None
    if not lines:
        return set(), None
    names = [*_columns(format), *(["timeline"] if with_timeline else [])]
    if format == "tsv":
        rows = [line.split("\t") for line in lines]
    else:
        rows = list(csv.reader(text.splitlines(keepends=True)))
    if rows[0] != names:
        raise ValueError(f"its columns are {', '.join(rows[0])}, not {', '.join(names)}")
    return {_unescaped(row[0]) if format == "tsv" else row[0] for row in rows[1:] if row}, None


def _columns(format: str) -> tuple[str, ...]:
    from acoustic.prediction import RESULT_COLUMNS

    return TSV_COLUMNS if format == "tsv" else RESULT_COLUMNS


def _remove_unfinished_line(path: Path) -> None:
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _unescaped(cell: str) -> str:
    return cell.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r")
