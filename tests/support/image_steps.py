"""Runs the steps of the Dockerfile in an empty folder, without a container engine.

    python -m tests.support.image_steps [cpu|cuda]

Files are copied and commands run as written, with `$VENV` and `$APP` in that folder. Commands that
change the system (apt-get, useradd) are printed and skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.paths import ROOT

SYSTEM = re.compile(r"^(apt-get|useradd)\b")


@dataclass
class Stage:
    """One build stage: a FROM line and the instructions after it."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str) -> dict[str, Stage]:
    """Build stages by name; continued lines are joined, comments removed."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    stages: dict[str, Stage] = {}
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(name, base)
        elif stages:
            stage.steps.append((instruction, rest.strip()))
    return stages


def chain(stages: dict[str, Stage], target: str) -> list[Stage]:
    """Stages that a target is built from, first to last, including those it copies from."""
    stage = stages[target]
    copied = [m[1] for _, rest in stage.steps if (m := re.match(r"--from=(\w+)", rest))]
    before = [stage.base, *copied]
    found = [each for name in before if name in stages for each in chain(stages, name)]
    unique = {each.name: each for each in [*found, stage]}
    return list(unique.values())


def run(target: str, folder: Path) -> None:
    """Run every step of a target in a folder."""
    app = folder / "app"
    app.mkdir()
    environment = {**os.environ, "VENV": str(folder / "venv"), "APP": str(app)}
    environment.pop("PYTHONPATH", None)
    for stage in chain(parse((ROOT / "Dockerfile").read_text()), target):
        for instruction, rest in stage.steps:
            if instruction == "ARG":
                name, _, default = rest.partition("=")
                environment.setdefault(name, default.strip('"'))
            elif instruction == "COPY" and not rest.startswith("--from"):
                _copy(rest.split(), app)
            elif instruction == "RUN":
                _run(stage.name, rest, app, environment)


def _copy(words: list[str], app: Path) -> None:
    *sources, destination = words
    for source in sources:
        path = ROOT / source
        target = app / destination if path.is_dir() else app / destination / path.name
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, target)


def _run(stage: str, command: str, app: Path, environment: dict[str, str]) -> None:
    if SYSTEM.match(command):
        print(f"[{stage}] skipped: {command}", flush=True)
        return
    print(f"[{stage}] {command}", flush=True)
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=app, env=environment, check=True
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="as-image-") as made:
        run(sys.argv[1] if len(sys.argv) > 1 else "cpu", Path(made))
        print("all steps succeeded")
