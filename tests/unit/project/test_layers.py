"""Imports go one way: tests → benchmarks → acousticsense → deployments → acoustic.

Inside acoustic: values ← the three stages, which do not import each other ← pipeline ← data ←
fitting and training, which do not import each other ← evaluation.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ABOVE = {
    "acoustic": ("deployments", "acousticsense", "benchmarks", "tests"),
    "deployments": ("acousticsense", "benchmarks", "tests"),
    "acousticsense": ("benchmarks", "tests"),
    "benchmarks": ("tests",),
}
FOREIGN = {
    "acoustic": ("ray", "starlette", "pydantic", "yaml", "typer"),
    "deployments": ("torch", "soundfile", "soxr", "librosa", "typer"),
    "acousticsense": ("ray", "starlette"),
    "benchmarks": (),
}
PARTS = {
    "preprocess": (),
    "classify": (),
    "postprocess": (),
    "data": ("preprocess",),
    "fitting": ("data", "preprocess", "classify", "postprocess"),
    "training": ("data", "classify"),
    "evaluation": ("training", "fitting", "data", "preprocess", "classify", "postprocess"),
}
"""Sub-package of acoustic → the sub-packages that it may import."""

PIPELINE_USERS = ("evaluation",)

TORCH_FREE = (
    "acoustic.preprocess.preprocessor",
    "acoustic.postprocess.postprocessor",
    "acoustic.classify.engine_config",
    "deployments.stages.preprocess",
    "deployments.stages.postprocess",
    "deployments.stages.ingress",
)


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path: Path) -> set[str]:
    """Every module named in an import statement, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("package", ABOVE)
def test_no_package_imports_upwards_or_what_is_not_its_own(package: str) -> None:
    wrong = [
        f"{name} imports {found}"
        for name, path in modules(package)
        for found in imports(path)
        for forbidden in (*ABOVE[package], *FOREIGN[package])
        if within(found, forbidden)
    ]
    assert not wrong


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_library_imports_only_parts_below_it(part: str) -> None:
    others = [other for other in PARTS if other != part and other not in PARTS[part]]
    forbidden = [f"acoustic.{other}" for other in others]
    if part not in PIPELINE_USERS:
        forbidden.append("acoustic.pipeline")
    found = list(modules(f"acoustic/{part}"))
    assert found
    wrong = [
        f"{name} imports {module}"
        for name, path in found
        for module in imports(path)
        if any(within(module, each) for each in forbidden)
    ]
    assert not wrong


def test_the_values_at_the_root_import_no_part() -> None:
    roots = {name: path for name, path in modules("acoustic") if name.count(".") == 1}
    roots.pop("acoustic.pipeline")
    wrong = [
        f"{name} imports {module}"
        for name, path in roots.items()
        for module in imports(path)
        if any(within(module, f"acoustic.{part}") for part in PARTS)
    ]
    assert not wrong


def test_only_three_parts_import_torch() -> None:
    users = {name for name, path in modules("acoustic") if "torch" in imports(path)}
    allowed = ("acoustic.classify", "acoustic.training", "acoustic.fitting", "acoustic.evaluation")
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


def test_scipy_signal_is_loaded_only_where_it_is_used() -> None:
    code = "import acoustic.pipeline, sys; assert 'scipy.signal' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_small_processes_stay_without_torch() -> None:
    assert "torch" not in loaded_by("\n".join(f"import {module}" for module in TORCH_FREE))


@pytest.mark.parametrize("module", ["acousticsense", "acousticsense.cli.main"])
def test_the_package_and_the_help_are_light(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert not loaded & {"ray", "torch", "numpy", "soundfile", "rich", "yaml", "pydantic"}
