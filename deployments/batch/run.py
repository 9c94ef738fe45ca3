"""The job assembled: plan, Ray Data pipeline, progress, report."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import time
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError

from acoustic.classify.config import EngineConfig
from acoustic.errors import AcousticError, ConfigError, SourceForbiddenError, SourceUnavailableError
from acoustic.manifest import load_manifest
from acoustic.postprocess.calibration import load_calibration
from acoustic.postprocess.postprocessor import check_coverage, check_top_k
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from deployments.batch.answer import Answer
from deployments.batch.files import SourceFile
from deployments.batch.hear import Hear
from deployments.batch.options import JobOptions
from deployments.batch.plan import Plan, make_plan, record_job
from deployments.batch.progress import ProgressReport, Totals
from deployments.batch.redo import take_back
from deployments.batch.report import to_text, write_report
from deployments.batch.sink import write
from deployments.batch.tables import FILES
from deployments.config import PROJECT_ROOT, ServiceConfig, load_config

logger = logging.getLogger(__name__)

HEAR_CPUS = 0.5
CLASSIFY_CPUS = 0.4
WRITE_CPUS = 0.1
"""Logical CPUs; fractions, so that a machine of two cores can hold every stage at once."""

N_PROBED = 20
NO_PROGRESS_TIMEOUT_S = 600.0
EXIT_OK, EXIT_ERRORS, EXIT_ERROR_RATE, EXIT_BROKEN, EXIT_INTERRUPTED = 0, 1, 3, 4, 130


def run_job(options: JobOptions) -> int:
    """Do the job.

    Returns:
        Exit code: 0 done, 1 an error row with `--errors fail`, 3 more errors than
        `--max-error-rate`, 4 broken off, 130 interrupted.

    Raises:
        ConfigError: a source, setting or output that cannot be used, or too few resources.
        CheckpointError: the model cannot be used.
    """
    config = _settings(options)
    plan = make_plan(options, config)
    n_again = sum(len(ids) for ids in plan.retried.values())
    again = f", {n_again} errors to try again" if n_again else ""
    print(f"{plan.n_listed} files listed, {plan.n_finished} finished before{again}", flush=True)
    if options.dry_run:
        print(estimate(plan.files, options, config))
        return EXIT_OK
    record_job(options, config)
    totals = Totals()
    try:
        if plan.files:
            _run(plan, options, config, totals)
    except KeyboardInterrupt:
        print(
            f"interrupted after {totals.n_files} of {len(plan.files)} files; the same command "
            "with --resume goes on",
            flush=True,
        )
        return EXIT_INTERRUPTED
    except (RayError, SourceUnavailableError, SourceForbiddenError) as error:
        print(f"the job broke off: {_cause(error)}; the same command with --resume goes on")
        return EXIT_BROKEN
    except _FirstError as error:
        print(f"ended at the first error, {error}; --errors report goes on after errors")
        return EXIT_ERRORS
    return _finish(options, plan, totals)


def _finish(options: JobOptions, plan: Plan, totals: Totals) -> int:
    """The report, and the exit code that it gives."""
    try:
        report = write_report(options, plan, totals)
    except AcousticError as error:
        print(f"all rows are written, the report is not: {error.message}")
        return EXIT_BROKEN
    print(to_text(report))
    if report["n_errors"] > options.max_error_rate * report["n_rows"]:
        print(
            f"{report['n_errors']} of {report['n_rows']} rows are errors, "
            f"limit is {options.max_error_rate:.1%}"
        )
        return EXIT_ERROR_RATE
    return EXIT_OK


def estimate(files: list[SourceFile], options: JobOptions, config: ServiceConfig) -> str:
    """Counts, bytes and time of a job, from a probe of a few of its files in this process."""
    known = [file.size_bytes for file in files if file.size_bytes >= 0]
    size = f"{sum(known) / 1e9:.2f} GB" if len(known) == len(files) else "of unknown size"
    if not files:
        return "nothing to do"
    probed = random.Random(0).sample(files, min(N_PROBED, len(files)))
    hear = Hear(config.checkpoint_folder, config, options)
    answer = Answer(config.checkpoint_folder, config, options)
    answer(hear(_chunk(probed[:1])))  # the first file loads and warms up
    begun_s = time.process_time()
    answer(hear(_chunk(probed)))
    cpu_s = (time.process_time() - begun_s) / len(probed)
    n_cpus = os.cpu_count() or 1
    return (
        f"{len(files)} files to do, {size}; {cpu_s * 1e3:.0f} ms of CPU a file by a probe of "
        f"{len(probed)}: about {len(files) * cpu_s / n_cpus / 60:.1f} minutes on {n_cpus} CPUs "
        "like this one"
    )


class _FirstError(Exception):
    """An error row came, and `--errors fail` was asked for."""


def _cause(error: Exception) -> str:
    """Our own sentence, or the last line of what Ray tells of an error."""
    if isinstance(error, AcousticError):
        return error.message
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _settings(options: JobOptions) -> ServiceConfig:
    config = load_config(PROJECT_ROOT / options.config)
    if options.checkpoint:
        config = replace(config, checkpoint=os.path.abspath(options.checkpoint))
    check_top_k(options.top_k, len(load_manifest(config.checkpoint_folder).labels))
    if options.coverage is not None:
        _check_supported(options.coverage, config)
    return config


def _check_supported(coverage: float, config: ServiceConfig) -> None:
    """Refuse at the start what would fail on every file."""
    manifest = load_manifest(config.checkpoint_folder)
    calibration = load_calibration(config.checkpoint_folder, manifest.digest)
    method = config.postprocess.set_method
    counts = {WINDOWS_BY_EFFORT["fast"], *calibration.temperatures}
    if any(calibration.quantile(method, n, check_coverage(coverage)) is None for n in counts):
        raise ConfigError(f"the model's calibration does not support a coverage of {coverage:g}")


def _run(plan: Plan, options: JobOptions, config: ServiceConfig, totals: Totals) -> None:
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(options)
    try:
        dataset = _pipeline(plan, options, config)
        take_back(options, plan.retried)  # only now: too few resources would have ended the job
        with ProgressReport(options.progress, len(plan.files)) as progress:
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                for part in table.to_pylist():
                    if part["failure"]:
                        raise SourceUnavailableError(part["failure"])
                    totals.add(part)
                    if part["first_error"] and options.fail_on_error:
                        raise _FirstError(part["first_error"])
                progress.tell(totals)
    finally:
        if is_ours:
            ray.shutdown()


def _connect(options: JobOptions) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = options.address or os.environ.get("RAY_ADDRESS", "")
    if address:
        ray.init(address=address, **quiet)
        return
    ray.init(address="local", include_dashboard=False, **quiet)


def _pipeline(plan: Plan, options: JobOptions, config: ServiceConfig) -> Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    resources = ray.cluster_resources()
    n_cpus, n_gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    uses_gpu = n_gpus >= 1 and config.engine.accelerator in ("auto", "cuda")
    n_hear = options.hear_actors or max(1, int(n_cpus))
    n_classify = options.classify_actors or (int(n_gpus) if uses_gpu else max(1, int(n_cpus) // 2))
    _check_resources(n_hear, n_classify, n_cpus, n_gpus if uses_gpu else None)
    engine = _engine(config.engine, uses_gpu)
    settings = (config.checkpoint_folder, replace(config, engine=engine), options)
    n_files = min(options.chunk_files, math.ceil(len(plan.files) / (2 * n_hear)))
    chunks = [plan.files[i : i + n_files] for i in range(0, len(plan.files), n_files)]
    whole: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    return (
        ray.data.from_arrow([_chunk(chunk) for chunk in chunks])
        .map_batches(
            Hear, fn_constructor_args=settings, num_cpus=HEAR_CPUS,
            compute=ActorPoolStrategy(size=min(n_hear, len(chunks))), **whole,
        )
        .map_batches(
            Answer, fn_constructor_args=settings, num_cpus=CLASSIFY_CPUS,
            num_gpus=1 if uses_gpu else None,
            compute=ActorPoolStrategy(size=min(n_classify, len(chunks))), **whole,
        )
        .map_batches(write, fn_args=(options, plan.extras), num_cpus=WRITE_CPUS, **whole)
    )  # fmt: skip


def _check_resources(n_hear: int, n_classify: int, n_cpus: float, n_gpus: float | None) -> None:
    """Ray would wait in silence for what never comes."""
    needed = n_hear * HEAR_CPUS + n_classify * CLASSIFY_CPUS + WRITE_CPUS
    if needed > n_cpus:
        raise ConfigError(
            f"{n_hear} decoding and {n_classify} classifying processes need {needed:.1f} CPUs, "
            f"the cluster has {n_cpus:g}: lower --concurrency or --classifiers"
        )
    if n_gpus is not None and n_classify > n_gpus:
        raise ConfigError(f"{n_classify} classifiers need as many GPUs, there are {n_gpus:g}")


def _engine(engine: EngineConfig, uses_gpu: bool) -> EngineConfig:
    return replace(engine, accelerator="cuda") if uses_gpu else engine


def _chunk(files: list[SourceFile]) -> pa.Table:
    return pa.Table.from_pydict({"file": [json.dumps(asdict(f)) for f in files]}, schema=FILES)


def main(arguments: list[str], prog: str) -> int:
    """The command: options, job, exit code."""
    import sys

    from deployments.batch.options import parse_arguments

    try:
        return run_job(parse_arguments(arguments, prog))
    except AcousticError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 2
