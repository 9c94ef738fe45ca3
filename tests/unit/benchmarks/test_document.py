"""The pages of the measurements: sections are replaced, and say where they were measured."""

from __future__ import annotations

import os
import re
from pathlib import Path

from benchmarks.document import describe_machine, write_section

CPU_INFO = "processor\t: 0\nmodel name\t: Made-up 9000 @ 3 GHz\nprocessor\t: 1\n"


def test_a_section_names_its_command_and_machine_and_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_section("One", "make one", "first", page)
    write_section("Two", "make two", "second", page)
    write_section("One", "make one", r"again \d", page)
    text = page.read_text()
    assert text.count("## One") == text.count("## Two") == 1
    assert "first" not in text
    assert r"again \d" in text
    where = re.escape(describe_machine())
    assert re.search(rf"`make two` on \d{{4}}-\d\d-\d\d, {where}, Python 3", text)


def test_the_machine_is_named_by_its_processor_and_what_it_can() -> None:
    found = describe_machine(CPU_INFO)
    assert found.startswith(f"Made-up 9000 @ 3 GHz, {os.cpu_count()} CPUs, ")
    assert found.endswith(("with bfloat16", "without bfloat16"))
    assert describe_machine("").split(", ")[0] != "Made-up 9000 @ 3 GHz"
