"""`acousticsense doctor`: what this installation can do here, and what is wrong with it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from acoustic.resources import usable_cpus
from acousticsense.cli.options import EXTRAS, Config, Model, quiet_decoders

GB = 1e9
LITTLE_MEMORY_GB, LITTLE_DISK_GB = 4.0, 2.0
"""Below these a service of one replica a stage, or its temporary files, may not fit."""

SLOW_MS = 500.0
"""A classification of ten seconds that takes longer is slow for any machine that is not busy."""

PORT = 8000
MORE_EXTRAS = {
    "client": ("httpx",), "formats": ("av",), "openvino": ("openvino",), "onnx": ("onnxruntime",),
    "gpu": ("pynvml",),
}  # fmt: skip
OK, NOTE, WRONG = "ok", "note", "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        state: "ok", "note" (works, but could be better) or "wrong".
        text: what was found, and what to do about it.
    """

    name: str
    state: str
    text: str


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    model: Model = None,
    config: Config = None,
) -> None:
    """Look at versions, extras, device, memory, ports and the model, and classify a made-up sound.

    Exit code 1 if something is wrong.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions, _extras, _machine, _port, lambda: _classification(model, config),
    ]  # fmt: skip
    findings: list[Finding] = []
    with quiet_decoders():
        for check in checks:
            for finding in check():
                findings.append(finding)
                if not as_json:
                    typer.echo(f"{finding.state:<6}{finding.name:<15}{finding.text}")
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(each) for each in findings]}))
    raise typer.Exit(1 if any(each.state == WRONG for each in findings) else 0)


def _versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    from acoustic import __version__

    found = []
    for name in ("torch", "ray", "numpy", "soundfile"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding(name, WRONG, f"is not installed: pip install {name}")
    here = f"acousticsense {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield Finding("versions", OK, f"{here}; {', '.join(found)}")


def _extras() -> Iterator[Finding]:
    known = {**EXTRAS, **MORE_EXTRAS}
    has = [
        name
        for name, modules in known.items()
        if all(importlib.util.find_spec(module) for module in modules)
    ]
    missing = sorted(set(known) - set(has))
    yield Finding("extras", OK, f"installed: {', '.join(sorted(has)) or 'none'}")
    if "formats" in missing:
        yield Finding("formats", NOTE, "M4A, AAC, WMA and WebM need the extra formats")


def _machine() -> Iterator[Finding]:
    import psutil

    cores = usable_cpus()
    free_gb = psutil.virtual_memory().available / GB
    state = OK if free_gb >= LITTLE_MEMORY_GB else NOTE
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    yield Finding("machine", state, f"{cores} cores, {free_gb:.1f} GB of memory free")
    if busy > 2 * cores:
        yield Finding("load", NOTE, f"{busy:.0f} processes want {cores} cores: all will be slow")
    disk_gb = shutil.disk_usage(tempfile.gettempdir()).free / GB
    state = OK if disk_gb >= LITTLE_DISK_GB else NOTE
    yield Finding("disk", state, f"{disk_gb:.1f} GB free for temporary files")


def _port() -> Iterator[Finding]:
    from acoustic.errors import ConfigError
    from deployments.listen_address import check_listen_address

    try:
        check_listen_address("127.0.0.1", PORT)
        yield Finding("port", OK, f"{PORT} is free for `acousticsense serve`")
    except ConfigError as error:
        yield Finding("port", NOTE, f"{error.message}; `serve --port` takes another")


def _classification(model: Path | None, config: Path | None) -> Iterator[Finding]:
    """The device and the time of a made-up sound."""
    from acoustic.errors import AcousticError
    from acoustic.example import example_wav
    from acousticsense.classifier import Classifier
    from deployments.config import BUILT_IN

    begun_s = time.perf_counter()
    try:
        with Classifier(model or BUILT_IN, config=config) as classifier:
            load_s = time.perf_counter() - begun_s
            plan = classifier.pipeline.classifier.engine.plan
            sound = example_wav(10.0)
            classifier.classify(sound)
            begun_s = time.perf_counter()
            answer = classifier.classify(sound)
            ms = (time.perf_counter() - begun_s) * 1e3
    except AcousticError as error:
        yield Finding("model", WRONG, error.message)
        return
    yield Finding(
        "model", OK,
        f"{answer.model.name} {answer.model.version} ({answer.model.digest}), loaded in "
        f"{load_s:.1f} s",
    )  # fmt: skip
    yield Finding("device", OK, f"{plan.device} in {plan.precision}, {plan.backend}")
    if plan.device == "cpu" and plan.precision == "fp32":
        faster = "backend openvino (extra openvino) is faster" if sys.platform == "linux" else ""
        yield Finding("precision", NOTE, f"this CPU has no bfloat16: fp32. {faster}".strip())
    slowest = max(answer.timings_ms.items(), key=lambda item: item[1])
    state = OK if ms < SLOW_MS else NOTE
    yield Finding(
        "speed", state, f"10 s of sound in {ms:.0f} ms, {slowest[1]:.0f} of them in {slowest[0]}"
    )
