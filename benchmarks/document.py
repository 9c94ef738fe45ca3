"""Puts a script's table into docs/benchmarks.md, so that numbers and text cannot drift apart."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"

HEADER = """# Measurements

Each section is written by the script it names. Absolute times depend on the machine and its load;
the ratios within a section were taken interleaved in one run.
"""


def write_section(title: str, command: str, body: str, path: Path = PAGE) -> None:
    """Replace or append one section of a page.

    Args:
        title: heading of the section.
        command: that made it.
        body: Markdown of its content.
        path: of the page.
    """
    page = path.read_text(encoding="utf-8") if path.exists() else HEADER
    today = datetime.now(UTC).date().isoformat()
    section = (
        f"## {title}\n\n`{command}` on {today}, {platform.machine()}, Python "
        f"{platform.python_version()}.\n\n{body.strip()}\n"
    )
    pattern = re.compile(rf"## {re.escape(title)}\n.*?(?=\n## |\Z)", re.DOTALL)
    if pattern.search(page):
        page = pattern.sub(lambda _: section, page)
    else:
        page = f"{page.rstrip()}\n\n{section}"
    path.write_text(page, encoding="utf-8")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
