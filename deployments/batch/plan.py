"""What is left to do: the files of the sources without those that have a row already.

The parts in the output are the record: a file is finished when its row is in one of them. So a
job may be killed at any moment; what it had in hand is done again, what it wrote is not.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from acoustic.digest import config_digest
from acoustic.errors import ConfigError
from acoustic.manifest import load_manifest
from acoustic.postprocess.calibration import load_calibration
from deployments.batch.files import SourceFile
from deployments.batch.options import JobOptions
from deployments.batch.redo import RETRIED_CODES
from deployments.batch.sink import list_parts, read_columns
from deployments.batch.sources import list_files
from deployments.batch.storage import open_filesystem, write_atomically
from deployments.config import ServiceConfig

JOB_FILE = "_job.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a job has to do.

    Attributes:
        files: without a row yet.
        n_listed: files of the sources, after limit and sample.
        n_finished: of them, that have a row.
        retried: path of a part → ids of its error rows that are to be taken back before.
        extras: columns that manifests pass through.
    """

    files: list[SourceFile]
    n_listed: int
    n_finished: int
    retried: dict[str, frozenset[str]]
    extras: list[str]


def make_plan(options: JobOptions, config: ServiceConfig) -> Plan:
    """List the sources and leave out what is finished.

    Raises:
        ConfigError: a source that cannot be listed, results that are in the way, or results of
            another job.
    """
    finished, failed = _finished(options, config)
    files = _chosen(list_files(options.sources, options.storage), options)
    listed = {file.id for file in files}
    retried = {path: ids & listed for path, ids in failed.items() if ids & listed}
    finished -= frozenset().union(*retried.values())
    left = [file for file in files if file.id not in finished]
    extras = list(dict.fromkeys(name for file in files for name in file.extras))
    return Plan(
        files=left,
        n_listed=len(files),
        n_finished=len(files) - len(left),
        retried=retried,
        extras=extras,
    )


def record_job(options: JobOptions, config: ServiceConfig) -> None:
    """Write what the results depend on, for a later `--resume`."""
    filesystem, root = open_filesystem(options.out, options.storage)
    text = json.dumps(_identity(options, config), indent=1)
    write_atomically(filesystem, f"{root}/{JOB_FILE}", text.encode())


def _chosen(files: list[SourceFile], options: JobOptions) -> list[SourceFile]:
    if options.sample is not None and options.sample < len(files):
        drawn = random.Random(options.seed).sample(range(len(files)), options.sample)
        files = [files[i] for i in sorted(drawn)]
    return files if options.limit is None else files[: options.limit]


def _finished(
    options: JobOptions, config: ServiceConfig
) -> tuple[set[str], dict[str, frozenset[str]]]:
    """Ids that have a row; part → ids of its rows whose error is to be tried again."""
    if not list_parts(options.out, options.storage):
        return set(), {}
    if options.existing == "refuse":
        raise ConfigError(
            f"{options.out} has results already: --resume goes on with an interrupted job, "
            "--skip-existing adds new files, or choose another --out"
        )
    _compare(options, config)
    finished: set[str] = set()
    failed: dict[str, frozenset[str]] = {}
    for path, table in read_columns(options.out, options.storage, ("id", "error_code")):
        ids = table["id"].to_pylist()
        finished.update(ids)
        if options.retry_errors:
            codes = table["error_code"].to_pylist()
            failed[path] = frozenset(
                each for each, code in zip(ids, codes, strict=True) if code in RETRIED_CODES
            )
    return finished, failed


def _compare(options: JobOptions, config: ServiceConfig) -> None:
    """Refuse to mix results, unless it is asked for; one folder has one format in any case."""
    filesystem, root = open_filesystem(options.out, options.storage)
    try:
        with filesystem.open_input_stream(f"{root}/{JOB_FILE}") as stream:
            before: dict[str, Any] = json.loads(stream.read())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{options.out} has parts but no usable {JOB_FILE}") from error
    now = _identity(options, config)
    names = list(now) if options.existing == "resume" else ["format", "partition_by_genre"]
    changed = [f"{n} was {before.get(n)}, is {now[n]}" for n in names if before.get(n) != now[n]]
    if changed:
        hint = "" if options.existing == "skip" else "; --skip-existing mixes them on purpose"
        raise ConfigError(f"{options.out} is of another job: {', '.join(changed)}{hint}")


def _identity(options: JobOptions, config: ServiceConfig) -> dict[str, Any]:
    digest = load_manifest(config.checkpoint_folder).digest
    calibration = load_calibration(config.checkpoint_folder, digest)
    return {
        "model": digest,
        "settings": config_digest(config.preprocess, config.postprocess, calibration),
        "read": options.read,
        "effort": options.effort,
        "top_k": options.top_k,
        "coverage": options.coverage,
        "format": options.format,
        "partition_by_genre": options.partition_by_genre,
    }
