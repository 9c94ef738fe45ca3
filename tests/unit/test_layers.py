"""Imports go one way: tests → acousticsense → deployments → acoustic, stages never sideways."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STAGES = ("preprocess", "classify", "postprocess")

FORBIDDEN = {
    "acoustic": ("ray", "starlette", "pydantic", "yaml", "typer", "deployments", "acousticsense"),
    "deployments": ("torch", "soundfile", "soxr", "librosa", "typer", "acousticsense"),
    "acousticsense": ("ray", "starlette"),
}
SHARED = ("acoustic.manifest", "acoustic.preprocess.mel", "acoustic.preprocess.segments")
"""Leaves that more than one stage may read: what a checkpoint says of itself is one."""

TORCH_FREE = (
    "acoustic.preprocess.preprocessor",
    "acoustic.postprocess.postprocessor",
    "acoustic.classify.config",
    "deployments.preprocess",
    "deployments.postprocess",
    "deployments.ingress",
)


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path: Path) -> set[str]:
    """Every module named in an import, inside functions as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_package_imports_upwards(package: str) -> None:
    wrong = [
        f"{name} imports {found}"
        for name, path in modules(package)
        for found in imports(path)
        for forbidden in FORBIDDEN[package]
        if within(found, forbidden)
    ]
    assert not wrong


def test_no_stage_imports_another() -> None:
    wrong = []
    for name, path in modules("acoustic"):
        stage = name.split(".")[1]
        if stage not in STAGES:
            continue
        others = [f"acoustic.{other}" for other in STAGES if other != stage]
        upward = ["acoustic.pipeline", "acoustic.training", "acoustic.evaluation"]
        wrong += [
            f"{name} imports {found}"
            for found in imports(path)
            if found not in SHARED and any(within(found, other) for other in others + upward)
        ]
    assert not wrong


def test_only_two_folders_import_torch() -> None:
    users = {name for name, path in modules("acoustic") if "torch" in str(imports(path))}
    allowed = ("acoustic.classify", "acoustic.training")
    assert users
    assert all(any(within(name, folder) for folder in allowed) for name in users)


def test_the_library_reads_no_environment() -> None:
    for name, path in modules("acoustic"):
        text = path.read_text()
        assert "os.environ" not in text, name
        assert "os.getenv" not in text, name


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in a fresh process after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(result.stdout.split())


def test_preprocessing_loads_neither_ray_nor_torch_nor_librosa() -> None:
    loaded = loaded_by("import acoustic.preprocess.preprocessor")
    assert not loaded & {"ray", "torch", "librosa", "numba", "starlette"}


@pytest.mark.parametrize("module", TORCH_FREE)
def test_small_processes_stay_without_torch(module: str) -> None:
    assert "torch" not in loaded_by(f"import {module}")


def test_the_help_is_light() -> None:
    loaded = loaded_by("import acousticsense.main")
    assert not loaded & {"ray", "torch", "numpy", "soundfile", "rich", "yaml"}
