"""The documents match the code: examples run, links resolve, files and targets exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acoustic import __version__
from acoustic.classify.engine_config import EngineConfig
from acoustic.example import example_wav
from acoustic.pipeline import Pipeline, PipelineConfig
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_example_reply_is_what_the_example_gets(default_checkpoint: Path) -> None:
    """The printed reply is shortened; what stands there is the real answer about the example."""
    shown = json.loads(block("json", "top_genre"))
    config = EngineConfig(accelerator="cpu", precision="fp32")
    pipeline = Pipeline.from_folder(default_checkpoint, PipelineConfig(engine=config))
    answer = pipeline.classify(example_wav(30.0)).to_dict()
    assert close(shown, {key: answer[key] for key in shown})


def close(shown: Any, found: Any) -> bool:
    """Equal but for the last digits, which depend on the processor's arithmetic."""
    if isinstance(shown, dict):
        return shown.keys() == found.keys() and all(close(shown[k], found[k]) for k in shown)
    if isinstance(shown, list):
        if all(
            isinstance(each, str) for each in shown
        ):  # genres of a set may be nearly as probable
            return sorted(shown) == sorted(found)
        return len(shown) == len(found) and all(map(close, shown, found))
    if isinstance(shown, str):  # a message has its number in words
        return re.sub(r"\d+", "", shown) == re.sub(r"\d+", "", found)
    return bool(shown == (pytest.approx(found, abs=0.02) if isinstance(found, float) else found))


def test_the_python_blocks_run(tmp_path: Path) -> None:
    """Each in a namespace of its own, in one process."""
    documents = (ROOT / "README.md", ROOT / "docs" / "python.md")
    blocks = [
        code
        for document in documents
        for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    ]
    assert len(blocks) >= 3
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(f"exec({code!r}, {{}})" for code in blocks)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


DOCUMENTS = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "k8s" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", document.read_text()):
        page = document.parent / target if target else document
        assert page.exists(), target
        if anchor:
            assert anchor in _anchors(page), f"{target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_changelog_has_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_targets_are_documented() -> None:
    targets = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert targets
    for target in targets:
        assert f"`make {target}`" in contributing, target


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    modules = [
        path.relative_to(ROOT)
        for package in ("acoustic", "acousticsense", "deployments")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert [str(p) for p in modules if not re.search(rf"[`/]{p.name}`", text)] == []
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.py)`", text)}
    here = {path.name for path in ROOT.glob("[abdt]*/**/*.py")}
    assert named <= here
