"""Results of `acousticsense classify` on a terminal: a line appears when a file is done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from acousticsense.cli.tables import short_cells, timeline_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from acoustic.errors import AcousticError
    from acoustic.prediction import Prediction

COLUMNS = ("file", "genre", "confidence", "could be", "review")
CONFIDENCE_COLUMNS = 10
MIN_COLUMNS = 8
"""Narrowest column, characters; a longer text continues in the next line."""


class TerminalWriter:
    """A table without lines, whose rows are printed one by one; long texts are folded, never cut.

    Args:
        console: console to print on.
        files: all files that will come, for their common folder and the width of the first column.
        genre_columns: characters of the longest genre.
        top_k: see `tables.short_cells`.
    """

    def __init__(
        self,
        console: Console,
        files: Sequence[str],
        genre_columns: int,
        top_k: int | None = None,
    ) -> None:
        self._console, self._top_k = console, top_k
        self._common = common_folder(files)
        longest = max((len(self.shown(each)) for each in files), default=MIN_COLUMNS)
        left = console.width - genre_columns - CONFIDENCE_COLUMNS - 2 * len(COLUMNS)
        file_columns = max(MIN_COLUMNS, min(longest, left // 2))
        others = max(MIN_COLUMNS, (left - file_columns) // 2)
        self._columns = (file_columns, genre_columns, CONFIDENCE_COLUMNS, others, others)
        if self._common:
            console.print(f"in {self._common}", style="dim", markup=False, highlight=False)
        self._row(COLUMNS, "bold")

    def shown(self, file: str) -> str:
        """The part of a path behind the common folder."""
        return file[len(self._common) :] if self._common else file

    def write(self, file: str, result: Prediction | AcousticError) -> None:
        """Print one row, and the windows below it where the answer lists them."""
        genre, confidence, others, review, error = short_cells(result, self._top_k)
        if error:
            self._console.print(
                f"{self.shown(file)}: {error}", style="red", markup=False, highlight=False
            )
            return
        self._row((self.shown(file), genre, confidence, others, review))
        for window in filter(None, timeline_text(result).split("; ")):
            self._console.print(f"    {window}", style="dim", markup=False, highlight=False)

    def close(self) -> None:
        """Nothing is left to print."""

    def _row(self, cells: Sequence[str], style: str = "") -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        for width in self._columns:
            table.add_column(width=width, overflow="fold")
        table.add_row(*(Text(cell) for cell in cells), style=style)
        self._console.print(table)


def common_folder(files: Sequence[str]) -> str:
    """The folder that all paths begin with, ending with a slash; "" if there is none.

    >>> common_folder(["/music/a/1.mp3", "/music/a/2.mp3"])
    '/music/a/'
    """
    folders = [os.path.dirname(each) for each in files]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # no file, or absolute and relative paths
        return ""
    return common.rstrip("/") + "/" if common else ""
