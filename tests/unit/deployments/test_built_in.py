"""Built-in files: in a checkout, in an installed wheel, and commands that need a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from acoustic.errors import ConfigError
from deployments import built_in
from tests.support.paths import ROOT

NAMES = [
    built_in.DEFAULT_SETTINGS, built_in.DEFAULT_CHECKPOINT, built_in.RULES, built_in.GUIDE_RULES,
    built_in.GUIDE_FRONT_END, built_in.SERVE_CONFIG, built_in.GRAFANA,
]  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of an installed package that carries no files yet."""
    monkeypatch.setattr(built_in, "files", lambda name: tmp_path / name)
    monkeypatch.setattr(built_in, "CHECKOUT", tmp_path)
    return tmp_path / "deployments"


@pytest.mark.parametrize("name", NAMES)
def test_a_checkout_has_every_file(name: str) -> None:
    path = built_in.built_in(name)
    assert path.is_absolute()
    assert path.exists()
    assert path == ROOT / name


def test_a_wheels_own_copies_come_first(package: Path) -> None:
    assert built_in.root() == package.parent
    (package / built_in.PACKAGED).mkdir(parents=True)
    assert built_in.root() == package / built_in.PACKAGED
    assert built_in.built_in("configs/x.yaml") == package / built_in.PACKAGED / "configs/x.yaml"


def test_a_file_in_place_of_the_folder_does_not_count(package: Path) -> None:
    package.mkdir()
    (package / built_in.PACKAGED).write_text("x")
    assert built_in.root() == package.parent


def test_paths_do_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = built_in.built_in(built_in.RULES)
    monkeypatch.chdir(tmp_path)
    assert built_in.built_in(built_in.RULES) == before


def test_commands_for_the_repository_need_a_checkout(package: Path) -> None:
    with pytest.raises(ConfigError, match="k8s render needs a checkout of the repository"):
        built_in.checkout("k8s render")
    (package.parent / "pyproject.toml").write_text("")
    assert built_in.checkout("k8s render") == package.parent
