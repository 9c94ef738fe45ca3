"""Runs a batch job: plan, Ray Data pipeline, progress, report."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.engine_config import EngineConfig
from acoustic.errors import AcousticError, ConfigError, SourceForbiddenError, SourceUnavailableError
from acoustic.postprocess.calibration import Calibration, load_calibration
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.resources import usable_cpus
from deployments.batch.classify_stage import ClassifyStage
from deployments.batch.interrupt import repeated_interrupt
from deployments.batch.job_options import JobOptions
from deployments.batch.lease import Lease
from deployments.batch.parts import write
from deployments.batch.plan import Plan, make_plan, record_job
from deployments.batch.preprocess_stage import PreprocessStage
from deployments.batch.progress import ProgressReport, Totals
from deployments.batch.report import (
    count,
    format_duration,
    format_size,
    to_text,
    write_report,
)
from deployments.batch.retry_errors import remove_rows
from deployments.batch.schema import FILES
from deployments.batch.source_file import SourceFile
from deployments.config import ServiceConfig, load_config
from deployments.ray_address import connect
from deployments.taxonomies import with_taxonomy

logger = logging.getLogger(__name__)

PREPROCESS_CPUS = 0.5
CLASSIFY_CPUS = 0.4
WRITE_CPUS = 0.1
"""Logical CPUs per process; fractions, so that all stages fit on a machine with two cores."""

N_PROBED = 20
NO_PROGRESS_TIMEOUT_S = 600.0
EXIT_OK, EXIT_ERRORS, EXIT_ERROR_RATE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 3, 4, 130


def run_job(options: JobOptions) -> int:
    """Run a batch job.

    Returns:
        Exit code: 0 done, 1 an error row with `--errors fail`, 3 more errors than
        `--max-error-rate`, 4 job failed, 130 interrupted.

    Raises:
        ConfigError: a source, setting or output cannot be used, or the cluster is too small.
        CheckpointError: the model cannot be used.
    """
    config = _settings(options)
    if options.dry_run:
        return _say_what_would_be(options, config)
    with Lease(options.out, options.storage):
        return _run_alone(options, config)


def _say_what_would_be(options: JobOptions, config: ServiceConfig) -> int:
    plan = _planned(options, config)
    print(estimate(plan.files, options, config))
    return EXIT_OK


def _planned(options: JobOptions, config: ServiceConfig) -> Plan:
    """The plan; what is in it is printed."""
    plan = make_plan(options, config)
    n_again = sum(len(ids) for ids in plan.retried.values())
    again = f", {n_again} errors to try again" if n_again else ""
    print(f"{plan.n_listed} files listed, {plan.n_finished} finished before{again}", flush=True)
    if plan.n_skipped:
        print(f"{count(plan.n_skipped, 'other file')} skipped: not audio by the ends of the names")
    for source in plan.empty:
        print(f"{source} has no audio file, or only files of the sources before it")
    return plan


def _run_alone(options: JobOptions, config: ServiceConfig) -> int:
    """Run the job, which nobody else does."""
    plan = _planned(options, config)
    record_job(options, config)
    totals = Totals()
    try:
        if plan.files:
            with repeated_interrupt():
                _run(plan, options, config, totals)
    except KeyboardInterrupt:
        print(
            f"interrupted after {totals.n_files} of {len(plan.files)} files; rerun with "
            "--resume to continue",
            flush=True,
        )
        return EXIT_INTERRUPTED
    except (RayError, SourceUnavailableError, SourceForbiddenError) as error:
        print(f"job failed: {_cause(error)}; rerun with --resume to continue")
        return EXIT_FAILED
    except _FirstError as error:
        print(f"stopped at the first error, {error}; use --errors report to continue")
        return EXIT_ERRORS
    return _finish(options, plan, totals)


def _finish(options: JobOptions, plan: Plan, totals: Totals) -> int:
    """Write and print the report; returns the exit code."""
    try:
        report = write_report(options, plan, totals)
    except AcousticError as error:
        print(f"all rows are written, but the report is not: {error.message}")
        return EXIT_FAILED
    print(to_text(report))
    if report["n_errors"] > options.max_error_rate * report["n_rows"]:
        print(
            f"{report['n_errors']} of {report['n_rows']} rows are errors, "
            f"limit is {options.max_error_rate:.1%}"
        )
        return EXIT_ERROR_RATE
    return EXIT_OK


def estimate(files: list[SourceFile], options: JobOptions, config: ServiceConfig) -> str:
    """Number of files, size and estimated time of a job, measured on a few of its files."""
    if not files:
        return "nothing to do"
    known = [file.size_bytes for file in files if file.size_bytes >= 0]
    size = format_size(sum(known)) if len(known) == len(files) else "of unknown size"
    probed = random.Random(0).sample(files, min(N_PROBED, len(files)))
    preprocess = PreprocessStage(config.checkpoint_folder, config, options)
    classify = ClassifyStage(config.checkpoint_folder, config, options)
    classify(preprocess(_chunk(probed[:1])))  # the first file loads and warms up
    begun_s = time.process_time()
    classify(preprocess(_chunk(probed)))
    cpu_s = (time.process_time() - begun_s) / len(probed)
    n_cpus = usable_cpus()
    return (
        f"{count(len(files), 'file')} to do, {size}\n"
        f"about {format_duration(len(files) * cpu_s / n_cpus)} on {n_cpus} CPUs like these: "
        f"{cpu_s * 1e3:.0f} ms of CPU per file, measured on {count(len(probed), 'file')}"
    )


class _FirstError(Exception):
    """Raised at the first error row with `--errors fail`."""


def _cause(error: Exception) -> str:
    """Message of an AcousticError, or class and last line of a Ray error."""
    if isinstance(error, AcousticError):
        return error.message
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _settings(options: JobOptions) -> ServiceConfig:
    config = load_config(options.config)
    if options.model is not None:
        config = replace(config, checkpoint=str(options.model.absolute()))
    postprocess = with_taxonomy(config.postprocess, options.taxonomy)
    config = replace(config, postprocess=postprocess)
    folder = CheckpointFolder.open(config.checkpoint_folder)
    stage = Postprocessor.from_folder(folder, postprocess)
    options.request.check_model(len(stage.labels_of(options.request.taxonomy)))
    if options.request.coverage is not None:
        calibration = load_calibration(folder).with_temperature(config.postprocess.temperature)
        _check_supported(options.request.coverage, calibration, config)
    return config


def _check_supported(coverage: float, calibration: Calibration, config: ServiceConfig) -> None:
    """Reject at the start what would fail on every file."""
    method = config.postprocess.set_method
    fitted = [calibration.at(WINDOWS_BY_EFFORT["fast"]), *calibration.windows.values()]
    if any(each.quantile(method, coverage) is None for each in fitted):
        raise ConfigError(f"the model's calibration does not support a coverage of {coverage:g}")


def _run(plan: Plan, options: JobOptions, config: ServiceConfig, totals: Totals) -> None:
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(options.address)
    try:
        dataset = _pipeline(plan, options, config)
        remove_rows(options, plan.retried)  # only now: on a too small cluster no row is removed
        with ProgressReport(options.progress, len(plan.files)) as progress:
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                for part in table.to_pylist():
                    if part["failure"]:
                        raise SourceUnavailableError(part["failure"])
                    totals.add(part)
                    if part["first_error"] and options.fail_on_error:
                        raise _FirstError(part["first_error"])
                progress.update(totals)
    finally:
        if is_ours:
            ray.shutdown()


def _pipeline(plan: Plan, options: JobOptions, config: ServiceConfig) -> Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    resources = ray.cluster_resources()
    n_cpus, n_gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    uses_gpu = n_gpus >= 1 and config.engine.accelerator in ("auto", "cuda")
    n_preprocess = options.preprocess_actors or max(1, int(n_cpus))
    n_classify = options.classify_actors or (int(n_gpus) if uses_gpu else max(1, int(n_cpus) // 2))
    _check_resources(n_preprocess, n_classify, n_cpus, n_gpus if uses_gpu else None)
    engine = _engine(config.engine, uses_gpu)
    settings = (config.checkpoint_folder, replace(config, engine=engine), options)
    # at least two chunks per decoding process, so that all of them have work until near the end
    n_files = min(options.chunk_files, math.ceil(len(plan.files) / (2 * n_preprocess)))
    chunks = [plan.files[i : i + n_files] for i in range(0, len(plan.files), n_files)]
    whole: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    return (
        ray.data.from_arrow([_chunk(chunk) for chunk in chunks])
        .map_batches(
            PreprocessStage, fn_constructor_args=settings, num_cpus=PREPROCESS_CPUS,
            compute=ActorPoolStrategy(size=min(n_preprocess, len(chunks))), **whole,
        )
        .map_batches(
            ClassifyStage, fn_constructor_args=settings, num_cpus=CLASSIFY_CPUS,
            num_gpus=1 if uses_gpu else None,
            compute=ActorPoolStrategy(size=min(n_classify, len(chunks))), **whole,
        )
        .map_batches(write, fn_args=(options, plan.extras), num_cpus=WRITE_CPUS, **whole)
    )  # fmt: skip


def _check_resources(
    n_preprocess: int, n_classify: int, n_cpus: float, n_gpus: float | None
) -> None:
    """Reject a cluster that is too small; Ray would wait silently for ever."""
    needed = n_preprocess * PREPROCESS_CPUS + n_classify * CLASSIFY_CPUS + WRITE_CPUS
    if needed > n_cpus:
        raise ConfigError(
            f"{n_preprocess} decoding and {n_classify} classifying processes need {needed:.1f} "
            f"CPUs, the cluster has {n_cpus:g}: lower --concurrency or --classifiers"
        )
    if n_gpus is not None and n_classify > n_gpus:
        raise ConfigError(f"--classifiers is {n_classify}, limit is {n_gpus:g}: one per GPU")


def _engine(engine: EngineConfig, uses_gpu: bool) -> EngineConfig:
    return replace(engine, accelerator="cuda") if uses_gpu else engine


def _chunk(files: list[SourceFile]) -> pa.Table:
    return pa.Table.from_pydict({"file": [json.dumps(asdict(f)) for f in files]}, schema=FILES)
