"""What a batch job may be told, on the command line of `acousticsense batch` and of
`python -m deployments.batch` alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from acoustic.errors import ConfigError
from acoustic.types import EFFORTS, Effort
from deployments.batch.storage import StorageOptions

Format = Literal["parquet", "jsonl", "csv"]
Read = Literal["whole", "ranged"]
Progress = Literal["auto", "plain", "json", "quiet"]
Existing = Literal["refuse", "resume", "skip"]

DESCRIPTION = """\
Classify the audio files of folders, globs, object-store prefixes or manifests, and write one row
for each. Sources: a folder or glob; s3://bucket/prefix, gs://bucket/prefix, az://container/prefix;
a .csv, .parquet or .jsonl manifest with a column uri (other columns are passed through; sha256 or
md5 is verified)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """A batch job.

    Attributes:
        sources: what to classify.
        out: folder or object-store prefix for the results.
        config: settings of the three stages, relative to the project's root.
        checkpoint: model folder, "" for the settings' own.
        effort: how much of each file is heard.
        top_k: genres per row, None for five.
        coverage: of the prediction sets, None for the settings' own.
        format: of the part files.
        partition_by_genre: whether rows go to a folder per genre.
        limit: first so many files only, None for all.
        sample: so many files drawn at random, None for all.
        seed: of that draw.
        chunk_files: files per part, and lost at most when a worker dies.
        existing: what to do where `out` has results already.
        retry_errors: whether files whose error row may be another's fault are done again.
        fail_on_error: whether the first error row ends the job.
        max_error_rate: share of error rows above which the exit code is 3.
        hear_actors: processes that decode, None for one per CPU.
        classify_actors: processes that run the model, None for one per two CPUs, or one per GPU.
        read_threads: reads at a time in each decoding process.
        max_file_bytes: larger files get an error row.
        read: "whole" files, or "ranged": only the bytes of what is heard, where that is possible.
        progress: how progress is told.
        address: of a Ray cluster, "" for the one this runs in, or a new local one.
        storage: of object stores.
        dry_run: count and estimate only.
    """

    sources: tuple[str, ...]
    out: str
    config: str = "configs/default.yaml"
    checkpoint: str = ""
    effort: Effort = "balanced"
    top_k: int | None = None
    coverage: float | None = None
    format: Format = "parquet"
    partition_by_genre: bool = False
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    chunk_files: int = 32
    existing: Existing = "refuse"
    retry_errors: bool = False
    fail_on_error: bool = False
    max_error_rate: float = 1.0
    hear_actors: int | None = None
    classify_actors: int | None = None
    read_threads: int = 4
    max_file_bytes: int = 512 << 20
    read: Read = "whole"
    progress: Progress = "auto"
    address: str = ""
    storage: StorageOptions = field(default_factory=StorageOptions)
    dry_run: bool = False

    def __post_init__(self) -> None:
        counts = {
            "limit": self.limit, "sample": self.sample, "chunk": self.chunk_files,
            "concurrency": self.hear_actors, "classifiers": self.classify_actors,
            "read-threads": self.read_threads, "max-file-bytes": self.max_file_bytes,
        }  # fmt: skip
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigError(f"--{name} is {value}, must be 1 or more")
        if not 0 <= self.max_error_rate <= 1:
            raise ConfigError(f"--max-error-rate is {self.max_error_rate}, limits are 0 to 1")
        if self.retry_errors and self.existing == "refuse":
            raise ConfigError("--retry-errors goes with --resume or --skip-existing")


def parse_arguments(arguments: Sequence[str], prog: str) -> JobOptions:
    """Options of a command line.

    Raises:
        ConfigError: a value out of range.
        SystemExit: an unknown option, or help was asked for.
    """
    values = vars(_parser(prog).parse_args(arguments))
    storage = StorageOptions(
        endpoint=values.pop("endpoint"),
        region=values.pop("region"),
        anonymous=values.pop("anonymous"),
    )
    values["sources"] = tuple(values["sources"])
    values["fail_on_error"] = values.pop("errors") == "fail"
    values["partition_by_genre"] = values.pop("partition_by") == "genre"
    return JobOptions(storage=storage, **values)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="what to classify")
    add("--out", required=True, metavar="URI", help="folder or object-store prefix for the results")
    add("--effort", choices=EFFORTS, default="balanced", help="how much of each file is heard")
    add("--top-k", type=int, metavar="N", help="genres per row; 5 by default")
    add("--coverage", type=float, metavar="P", help="of the prediction sets")
    add("--format", choices=get_args(Format), default="parquet", help="of the part files")
    add("--partition-by", choices=["genre"], help="a folder per genre")
    add("--limit", type=int, metavar="N", help="the first N files only")
    add("--sample", type=int, metavar="N", help="N files drawn at random")
    add("--seed", type=int, default=0, metavar="N", help="of that draw")
    add("--dry-run", action="store_true", help="count the files and estimate the time only")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", dest="existing", action="store_const", const="resume", default="refuse",
        help="go on with an interrupted job: files that have a row are left alone",
    )  # fmt: skip
    existing.add_argument(
        "--skip-existing", dest="existing", action="store_const", const="skip",
        help="add new files to the results of another model or other settings",
    )  # fmt: skip
    add("--retry-errors", action="store_true",
        help="with --resume: once more for files that the store or the service failed")  # fmt: skip
    add("--errors", choices=["report", "fail"], default="report",
        help="a row for a file that fails, or the end of the job")  # fmt: skip
    add("--max-error-rate", type=float, default=1.0, metavar="SHARE",
        help="exit code 3 where more of the rows are errors")  # fmt: skip
    add("--concurrency", dest="hear_actors", type=int, metavar="N",
        help="processes that decode; one per CPU by default")  # fmt: skip
    add("--classifiers", dest="classify_actors", type=int, metavar="N",
        help="processes that run the model; one per two CPUs, or one per GPU")  # fmt: skip
    add("--read-threads", type=int, default=4, metavar="N", help="reads at a time per process")
    add("--chunk", dest="chunk_files", type=int, default=32, metavar="N", help="files per part")
    add("--max-file-bytes", type=int, default=512 << 20, metavar="N", help="refuse larger files")
    add("--read", choices=get_args(Read), default="whole",
        help="whole files, or only the bytes of what is heard")  # fmt: skip
    add("--progress", choices=get_args(Progress), default="auto",
        help="a bar on a terminal, plain lines, JSON lines, or nothing")  # fmt: skip
    add("--config", default="configs/default.yaml", metavar="FILE", help="settings of the stages")
    add("--checkpoint", default="", metavar="FOLDER", help="model; the settings' by default")
    add("--endpoint", default="", metavar="URL", help="of an S3-like store that is not AWS")
    add("--region", default="", metavar="NAME", help="of the bucket")
    add("--anonymous", action="store_true", help="public buckets: no credentials")
    add("--address", default="", metavar="ADDRESS", help="of a Ray cluster")
    return parser
