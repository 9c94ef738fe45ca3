"""Options of a batch job, as `acousticsense batch` sets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from acoustic.errors import ConfigError
from acoustic.request import RequestOptions
from deployments.batch.storage import StorageOptions

Format = Literal["parquet", "jsonl", "csv"]
Read = Literal["whole", "ranged"]
Progress = Literal["auto", "plain", "json", "quiet"]
Existing = Literal["refuse", "resume", "skip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """What a batch job classifies, where the results go and how much runs at a time.

    Attributes:
        sources: folders, globs, object-store prefixes or manifests to classify.
        out: folder or object-store prefix for the results.
        config: settings of the three stages; None for the built-in ones.
        model: folder of the checkpoint; None for the one that the settings name.
        request: effort, top_k, coverage and taxonomy of every file.
        taxonomy: file of that taxonomy, or its name.
        format: format of the part files.
        partition_by_genre: whether rows go to a folder per genre.
        limit: maximum number of files, None for all.
        sample: number of files drawn at random, None for all.
        seed: random seed of `sample`.
        chunk_files: files per part; at most as many are processed again after a crash.
        existing: what to do where `out` has results already: "refuse", "resume" or "skip".
        retry_errors: whether files whose error row may have another cause are processed again.
        fail_on_error: whether the first error row ends the job.
        max_error_rate: share of error rows, in [0, 1], above which the exit code is 3.
        preprocess_actors: processes that decode, None for one per CPU.
        classify_actors: processes that run the model, None for one per two CPUs, or one per GPU.
        read_threads: reads at a time in each decoding process.
        max_file_bytes: largest file in bytes; larger ones get an error row.
        read: "whole" files, or "ranged": only the bytes of the evaluated windows, where possible.
        content_digest: whether rows have the BLAKE3 digest of their file.
        progress: how progress is shown: "auto", "plain", "json" or "quiet".
        address: address of a Ray cluster; "" for the one that this process is part of, or a new
            local one.
        storage: options of object stores.
        dry_run: whether to count and estimate only.
    """

    sources: tuple[str, ...]
    out: str
    config: Path | None = None
    model: Path | None = None
    request: RequestOptions = field(default_factory=RequestOptions)
    taxonomy: str = ""
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
    preprocess_actors: int | None = None
    classify_actors: int | None = None
    read_threads: int = 4
    max_file_bytes: int = 512 << 20
    read: Read = "whole"
    content_digest: bool = False
    progress: Progress = "auto"
    address: str = ""
    storage: StorageOptions = field(default_factory=StorageOptions)
    dry_run: bool = False

    def __post_init__(self) -> None:
        counts = {
            "limit": self.limit, "sample": self.sample, "chunk": self.chunk_files,
            "concurrency": self.preprocess_actors, "classifiers": self.classify_actors,
            "read-threads": self.read_threads, "max-file-bytes": self.max_file_bytes,
        }  # fmt: skip
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigError(f"--{name} is {value}, must be 1 or more")
        if not 0 <= self.max_error_rate <= 1:
            raise ConfigError(f"--max-error-rate is {self.max_error_rate}, limits are 0 to 1")
        if self.content_digest and self.read == "ranged":
            raise ConfigError("--content-digest needs whole files: choose --read whole")
        if self.retry_errors and self.existing == "refuse":
            raise ConfigError("--retry-errors needs --resume or --skip-existing")
