"""Plans a batch job: lists the files of the sources that have no result row yet.

A file is finished when its row is in one of the parts of the output. So a job may be killed at any
moment: files in progress are processed again, files with a row are not.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.digest import config_digest
from acoustic.errors import ConfigError
from acoustic.file_walk import printable
from acoustic.postprocess.calibration import load_calibration
from deployments.batch.job_options import JobOptions
from deployments.batch.listing import list_files
from deployments.batch.parts import list_parts, read_columns
from deployments.batch.retry_errors import RETRIED_CODES
from deployments.batch.source_file import SourceFile
from deployments.batch.storage import open_filesystem, write_atomically
from deployments.config import ServiceConfig

JOB_FILE = "_job.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Work of a batch job.

    Attributes:
        files: files to classify, without a row yet.
        n_listed: number of files of the sources, after limit and sample.
        n_finished: number of listed files that have a row.
        retried: path of a part → ids of its error rows to remove before the job starts.
        extras: names of manifest columns that are passed through.
        n_skipped: number of files in the folders that are not audio by their names.
        empty: sources without an audio file of their own.
    """

    files: list[SourceFile]
    n_listed: int
    n_finished: int
    retried: dict[str, frozenset[str]]
    extras: list[str]
    n_skipped: int = 0
    empty: tuple[str, ...] = ()


def make_plan(options: JobOptions, config: ServiceConfig) -> Plan:
    """List the sources and leave out finished files.

    Raises:
        ConfigError: a source cannot be listed, or the output has results already that may not
            be extended, or results of another job.
    """
    finished, failed = _finished(options, config)
    listing = list_files(options.sources, options.storage)
    files = _chosen(listing.files, options)
    # retry listed files only: the row of any other file would be removed and not written again
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
        n_skipped=listing.n_skipped,
        empty=tuple(map(printable, listing.empty)),
    )


def record_job(options: JobOptions, config: ServiceConfig) -> None:
    """Write the settings that the results depend on, for a later `--resume`."""
    filesystem, root = open_filesystem(options.out, options.storage)
    text = json.dumps(_identity(options, config), indent=1)
    write_atomically(filesystem, f"{root}/{JOB_FILE}", text.encode())


def _chosen(files: list[SourceFile], options: JobOptions) -> list[SourceFile]:
    if options.sample is not None and options.sample < len(files):
        drawn = random.Random(options.seed).sample(range(len(files)), options.sample)
        files = [files[i] for i in sorted(drawn)]  # in the order of the listing
    return files if options.limit is None else files[: options.limit]


def _finished(
    options: JobOptions, config: ServiceConfig
) -> tuple[set[str], dict[str, frozenset[str]]]:
    """Ids of files with a row, and part → ids of its error rows that are to be retried."""
    if not list_parts(options.out, options.storage):
        return set(), {}
    if options.existing == "refuse":
        raise ConfigError(
            f"{options.out} has results already: --resume continues an interrupted job, "
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
    """Reject other settings unless --skip-existing allows them; the format must always match."""
    filesystem, root = open_filesystem(options.out, options.storage)
    try:
        with filesystem.open_input_stream(f"{root}/{JOB_FILE}") as stream:
            before = json.loads(stream.read())
        if not isinstance(before, dict):
            raise ValueError(f"{JOB_FILE} is not a JSON object")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{options.out} has parts but no usable {JOB_FILE}") from error
    now = _identity(options, config)
    names = list(now) if options.existing == "resume" else ["format", "partition_by_genre"]
    changed = [f"{n} was {before.get(n)}, is {now[n]}" for n in names if before.get(n) != now[n]]
    if changed:
        hint = "" if options.existing == "skip" else "; use --skip-existing to mix both"
        raise ConfigError(f"{options.out} has results of another job: {', '.join(changed)}{hint}")


def _identity(options: JobOptions, config: ServiceConfig) -> dict[str, Any]:
    folder = CheckpointFolder.open(config.checkpoint_folder)
    calibration = load_calibration(folder)
    known, wanted = config.postprocess.taxonomies, options.request.taxonomy
    applied = tuple(taxonomy for taxonomy in known if taxonomy.name == wanted)
    postprocess = replace(config.postprocess, taxonomies=applied)
    return {
        "model": folder.digest,
        "settings": config_digest(config.preprocess, postprocess, calibration),
        "read": options.read,
        "effort": options.request.effort,
        "top_k": options.request.top_k,
        "coverage": options.request.coverage,
        "taxonomy": options.request.taxonomy or None,
        "format": options.format,
        "partition_by_genre": options.partition_by_genre,
    }
