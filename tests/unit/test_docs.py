"""What the documents say is what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acoustic import __version__
from deployments.openapi import PredictionBody

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_example_reply_has_the_documented_schema() -> None:
    reply = PredictionBody.model_validate(json.loads(block("json", "top_genre")))
    assert reply.predictions[0].genre == reply.top_genre


def test_the_python_lines_run() -> None:
    lines = block("python", "Pipeline")
    assert len([line for line in lines.splitlines() if line.strip()]) == 6
    result = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] in ("True", "False")


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(script: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "%" in result.stdout


def test_the_file_tree_is_the_real_one() -> None:
    """Every file of the two packages, every folder, and nothing that is not there."""
    tree = block("text", "acoustic/    ")
    listed: set[str] = set()
    parent = ""
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            parent = name
        listed.add(name if not line.startswith(" ") else parent + name)
    for name in listed:
        assert (ROOT / name).exists(), name
    real = {
        str(path.relative_to(ROOT))
        for folder in ("acoustic", "deployments")
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    assert real <= listed
    stages = {
        f"{path.relative_to(ROOT)}/"
        for path in (ROOT / "acoustic").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert stages <= listed


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_changelog_has_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_targets_are_documented() -> None:
    targets = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert targets
    for target in targets:
        assert f"`make {target}`" in contributing, target
