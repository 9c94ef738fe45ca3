"""`acousticsense batch SOURCE… --out URI`: many files into a table of predictions."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from acousticsense.cli.options import (
    Config,
    ContentDigest,
    Effort,
    EffortOption,
    Model,
    TaxonomyName,
    quiet_decoders,
    readable_errors,
    require,
    resolved,
)


class FormatOption(StrEnum):
    """Format of the part files."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


class PartitionOption(StrEnum):
    """Key of the result folders."""

    GENRE = "genre"


class ErrorsOption(StrEnum):
    """Effect of a failing file on the job."""

    REPORT = "report"
    FAIL = "fail"


class ReadOption(StrEnum):
    """How files are read."""

    WHOLE = "whole"
    RANGED = "ranged"


class ProgressOption(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"
    QUIET = "quiet"


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE…",
        help="Folder, glob, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a "
        ".csv, .parquet or .jsonl manifest with a column uri (other columns are passed through; "
        "sha256 or md5 is verified).",
    ),
]
Out = Annotated[
    str, typer.Option(metavar="URI", help="Folder or object-store prefix for the results.")
]
TopK = Annotated[int | None, typer.Option(min=1, help="Genres per row; 5 by default.")]
CoverageValue = Annotated[
    float | None, typer.Option(help="Coverage of the prediction sets, 0.50 to 0.99.")
]
FormatValue = Annotated[FormatOption, typer.Option(help="Format of the part files.")]
PartitionBy = Annotated[
    PartitionOption | None, typer.Option(help="Put the rows into a folder per genre.")
]
Limit = Annotated[int | None, typer.Option(help="Maximum number of files.")]
Sample = Annotated[int | None, typer.Option(help="Number of files drawn at random.")]
Seed = Annotated[int, typer.Option(help="Random seed of --sample.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count the files and estimate the time only.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted job; files with a row are skipped."),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", help="Add new files to results of another model or other settings."
    ),
]
RetryErrors = Annotated[
    bool,
    typer.Option(
        "--retry-errors",
        help="With --resume or --skip-existing: process files again whose error may pass.",
    ),
]
Errors = Annotated[
    ErrorsOption, typer.Option(help="Give a failing file an error row, or end the job.")
]
MaxErrorRate = Annotated[
    float, typer.Option(help="Exit code 3 if a larger share of the rows are errors.")
]
Concurrency = Annotated[
    int | None, typer.Option(help="Processes that decode; one per CPU by default.")
]
Classifiers = Annotated[
    int | None, typer.Option(help="Processes that run the model; one per two CPUs, or one per GPU.")
]
ReadThreads = Annotated[int, typer.Option(help="Reads at a time per decoding process.")]
Chunk = Annotated[int, typer.Option(help="Files per part.")]
MaxFileBytes = Annotated[int, typer.Option(help="Largest file, bytes.")]
ReadValue = Annotated[
    ReadOption, typer.Option(help="Read whole files, or the bytes of the evaluated windows.")
]
Progress = Annotated[
    ProgressOption, typer.Option(help="A bar on a terminal, plain lines, JSON lines, nothing.")
]
Checkpoint = Annotated[Path | None, typer.Option(hidden=True)]
Endpoint = Annotated[str, typer.Option(help="URL of an S3-compatible store.")]
RegionValue = Annotated[str, typer.Option(help="Region of the bucket.")]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="Use no credentials: public buckets.")]
AddressValue = Annotated[str, typer.Option(help="Address of a Ray cluster.")]


def batch(
    sources: Sources,
    out: Out,
    effort: Effort = EffortOption.BALANCED,
    top_k: TopK = None,
    coverage: CoverageValue = None,
    format: FormatValue = FormatOption.PARQUET,
    partition_by: PartitionBy = None,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    resume: Resume = False,
    skip_existing: SkipExisting = False,
    retry_errors: RetryErrors = False,
    errors: Errors = ErrorsOption.REPORT,
    max_error_rate: MaxErrorRate = 1.0,
    concurrency: Concurrency = None,
    classifiers: Classifiers = None,
    read_threads: ReadThreads = 4,
    chunk: Chunk = 32,
    max_file_bytes: MaxFileBytes = 512 << 20,
    read: ReadValue = ReadOption.WHOLE,
    progress: Progress = ProgressOption.AUTO,
    taxonomy: TaxonomyName = "",
    content_digest: ContentDigest = False,
    config: Config = None,
    model: Model = None,
    checkpoint: Checkpoint = None,
    endpoint: Endpoint = "",
    region: RegionValue = "",
    anonymous: Anonymous = False,
    address: AddressValue = "",
) -> None:
    """Classify folders, object-store prefixes or manifests into one row per file.

    Interrupted or failed jobs continue with --resume; every part that is written stays.
    """
    if resume and skip_existing:
        raise typer.BadParameter("choose one of --resume and --skip-existing")
    require("batch")
    # only a dry run decodes in this process; a job leaves the stderr of the driver alone
    with readable_errors(), quiet_decoders() if dry_run else nullcontext():
        from acoustic.request import RequestOptions
        from deployments.batch.job import run_job
        from deployments.batch.job_options import JobOptions
        from deployments.batch.storage import StorageOptions
        from deployments.taxonomies import taxonomy_name

        options = JobOptions(
            sources=tuple(sources), out=out, address=address, format=format.value,
            config=resolved(config), model=resolved(model or checkpoint),
            request=RequestOptions(
                effort=effort.value, top_k=top_k, coverage=coverage,
                taxonomy=taxonomy_name(taxonomy),
            ), taxonomy=taxonomy,
            partition_by_genre=partition_by is PartitionOption.GENRE, limit=limit, sample=sample,
            seed=seed, chunk_files=chunk, dry_run=dry_run, retry_errors=retry_errors,
            existing="resume" if resume else "skip" if skip_existing else "refuse",
            fail_on_error=errors is ErrorsOption.FAIL, max_error_rate=max_error_rate,
            max_file_bytes=max_file_bytes, read=read.value, preprocess_actors=concurrency,
            classify_actors=classifiers, read_threads=read_threads, progress=progress.value,
            content_digest=content_digest,
            storage=StorageOptions(endpoint=endpoint, region=region, anonymous=anonymous),
        )  # fmt: skip
        raise typer.Exit(run_job(options))
