"""Chunks of files and their rows, to call the stages of a batch job without Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from acoustic.preprocess.segments import plan_rounds
from deployments.batch.schema import FILES, error_columns, identity
from deployments.batch.source_file import SourceFile
from tests.support.sounds import encode, noise

RATE = 22_050


def write_files(folder: Path, contents: dict[str, bytes]) -> list[SourceFile]:
    """Write files to a folder; returns them as a listing would, in the given order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        files.append(SourceFile(uri=str(folder / name), size_bytes=len(content)))
    return files


def file_table(files: Sequence[SourceFile]) -> pa.Table:
    """One chunk as the first stage receives it."""
    return pa.Table.from_pydict({"file": [json.dumps(asdict(f)) for f in files]}, schema=FILES)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a chunk, as any of the stages returns them."""
    return [json.loads(text) for text in table["row"].to_pylist()]


def failed_row(uri: str, error: Any, extras: dict[str, str] | None = None) -> dict[str, Any]:
    """A row of a file that failed, as it is written to a part."""
    file = SourceFile(uri=uri, extras=extras or {})
    return {**identity(file, 10, ""), **error_columns(error)}


def sound_in_first_round(window_s: float, duration_s: float) -> bytes:
    """A WAV file that is silent but for the windows of the first round of effort auto."""
    samples = np.zeros(round(duration_s * RATE), np.float32)
    for segment in plan_rounds(duration_s, window_s, "auto")[0]:
        start, stop = round(segment.start_s * RATE), round(segment.end_s * RATE)
        samples[start:stop] = noise(duration_s, RATE)[start:stop]
    return encode(samples, RATE)
