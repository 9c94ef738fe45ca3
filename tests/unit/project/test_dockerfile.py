"""The image: linted, pinned, not root, and with the tools that KubeRay's probes call."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.image_steps import chain, parse
from tests.support.kuberay import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
STAGES = parse(TEXT)


def locked() -> dict[str, str]:
    return {name: version for name, version, _ in locked_lines()}


def locked_lines() -> list[tuple[str, str, list[str]]]:
    """Name, version and digests of each package."""
    text = (ROOT / "requirements.lock").read_text()
    joined = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        pin, *digests = line.split()
        name, separator, version = pin.partition("==")
        assert separator
        found.append((name, version, digests))
    return found


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    if shutil.which(hadolint) is None:
        pytest.skip("hadolint is not installed: install the extra dev")
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_last_user_is_not_root(target: str) -> None:
    users = [
        rest for stage in chain(STAGES, target) for kind, rest in stage.steps if kind == "USER"
    ]
    assert users[-1] == "1000:1000"


def test_the_probes_find_their_tools() -> None:
    installs = [rest for kind, rest in STAGES["system"].steps if "apt-get install" in rest]
    assert all(re.search(rf"\b{tool}\b", installs[0]) for tool in ("bash", "wget", "grep"))


def test_every_package_of_the_project_is_locked_at_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["formats"], *extras["gpu"], *extras["tracing"]]
    versions = locked()
    for requirement in map(Requirement, wanted):
        if requirement.name == "torch":
            pin = re.search(r"ARG TORCH=torch==([\d.]+)", TEXT)
            assert pin
            assert requirement.specifier.contains(pin[1])
            assert f"torch=={pin[1]}" in (ROOT / "Makefile").read_text()
        else:
            assert requirement.specifier.contains(versions[requirement.name.lower()]), requirement


def test_every_locked_package_has_digests_and_the_image_asks_for_them() -> None:
    for name, _, digests in locked_lines():
        assert digests, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in digests), name
    installs = [rest for kind, rest in STAGES["packages"].steps if "requirements.lock" in rest]
    assert any("--require-hashes" in rest and "--no-deps" in rest for rest in installs)


def test_the_image_holds_a_list_of_what_is_installed() -> None:
    assert any('"$VENV/sbom.cdx.json"' in rest for _, rest in STAGES["packages"].steps)


def test_no_cuda_package_is_locked() -> None:
    assert not [name for name in locked() if re.match(r"nvidia-(?!ml-py)|triton|cuda", name)]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for stage in STAGES.values():
        for kind, rest in stage.steps:
            if kind != "COPY" or rest.startswith("--from"):
                continue
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.partition("/")[0] in kept, source


def test_ray_of_the_lock_is_that_of_the_manifests() -> None:
    version = locked()["ray"]
    for path in (ROOT / "k8s").rglob("*.yaml"):
        for found in re.findall(r"rayVersion: (\S+)", path.read_text()):
            assert found == version, path
