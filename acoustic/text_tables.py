"""Reads tables as rows of text: CSV as any program saves it, and JSON lines.

Cells pass through unchanged: `007` stays `007`, a date stays as it is written, 1.10 keeps its zero.
CSV is read in UTF-8 or UTF-16, with or without a byte order mark, with commas, semicolons or tabs,
and with any ends of lines.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from dataclasses import dataclass
from typing import Any

DELIMITERS = ",;\t"
LINE_END = re.compile(r"\r\n|\n|\r")
"""Line ends; `str.splitlines` has more, which may stand in JSON text."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text.

    Attributes:
        columns: names of the columns, in order.
        rows: name → text of each row; a name may be missing in JSON lines.
    """

    columns: list[str]
    rows: list[dict[str, str]]


def read_csv(content: bytes) -> TextTable:
    """A CSV table; "" for cells that a short row lacks.

    Args:
        content: bytes of the file.

    Raises:
        ValueError: no line, another encoding, a column twice, or a row with more cells than there
            are columns.
    """
    text = decode(content)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    if not lines:
        raise ValueError("it has no line with the names of columns")
    names = [name.strip() for name in lines[0][1]]
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise ValueError(f"column {repeated[0]!r} is there twice")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) > len(names):
            raise ValueError(
                f"line {number} has {len(cells)} cells, but there are {len(names)} columns"
            )
        padded = [*cells, *[""] * (len(names) - len(cells))]
        rows.append({name: cell for name, cell in zip(names, padded, strict=True) if name})
    return TextTable([name for name in names if name], rows)


def read_json_lines(content: bytes) -> TextTable:
    """JSON lines as a table: strings as they are, numbers as they are written, null as "".

    Args:
        content: bytes of the file.

    Raises:
        ValueError: another encoding, or a line that is not a JSON object.
    """
    rows = []
    for number, line in enumerate(LINE_END.split(decode(content)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=_Literal, parse_float=_Literal)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        rows.append({name: _as_text(value) for name, value in row.items()})
    return TextTable(list(dict.fromkeys(name for row in rows for name in row)), rows)


def decode(content: bytes) -> str:
    """Text in UTF-8 or, with a byte order mark, UTF-16.

    Raises:
        ValueError: it is in another encoding.
    """
    is_utf_16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} is not {'UTF-16' if is_utf_16 else 'UTF-8'}: save it as UTF-8"
        ) from error


class _Literal(str):
    """A number as it is written."""


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    """JSON of a value, whose numbers stay as they were written."""
    if isinstance(value, _Literal):
        return str(value)
    if isinstance(value, dict):
        items = (f"{json.dumps(k, ensure_ascii=False)}: {_as_json(v)}" for k, v in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_json, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _delimiter(text: str) -> str:
    """The delimiter that the header has most of; a comma if it has none."""
    header = text.splitlines()[0] if text else ""
    return max(DELIMITERS, key=header.count)
