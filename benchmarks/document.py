"""Writes the tables of the measurement scripts into docs/benchmarks.md or another page."""

from __future__ import annotations

import os
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
        title: heading of the section; a section with the same heading is replaced.
        command: shell command that produced the section, shown below the heading.
        body: Markdown content of the section.
        path: Markdown page to change.
    """
    page = path.read_text(encoding="utf-8") if path.exists() else HEADER
    today = datetime.now(UTC).date().isoformat()
    section = (
        f"## {title}\n\n`{command}` on {today}, {describe_machine()}, Python "
        f"{platform.python_version()}.\n\n{body.strip()}\n"
    )
    # A section ends before the next heading of level 2, or at the end of the page.
    pattern = re.compile(rf"## {re.escape(title)}\n.*?(?=\n## |\Z)", re.DOTALL)
    if pattern.search(page):
        # A function as replacement: backslashes in the section stay as they are.
        page = pattern.sub(lambda _: section, page)
    else:
        page = f"{page.rstrip()}\n\n{section}"
    path.write_text(page, encoding="utf-8")


def describe_machine(cpu_info: str | None = None) -> str:
    """Processor, number of CPUs, and what decides the speed of the model on them.

    Args:
        cpu_info: content of Linux's /proc/cpuinfo; read if None.
    """
    import torch

    from acoustic.classify.engine import cpu_has_bf16

    path = Path("/proc/cpuinfo")
    if cpu_info is None:
        cpu_info = path.read_text(encoding="utf-8") if path.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    name = named[1].strip() if named else platform.machine()
    native = "with" if cpu_has_bf16() else "without"
    widest = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {os.cpu_count()} CPUs, {widest} {native} bfloat16"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table with one header row."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
