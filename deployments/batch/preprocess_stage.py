"""First stage of a batch job: files to features. CPU only; torch is never imported here."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.content_cache import sealed
from acoustic.errors import AcousticError, InputError, ServiceError, SilentAudioError
from acoustic.preprocess.cache import features_to_bytes
from acoustic.preprocess.preprocessor import Preprocessor
from acoustic.preprocess.ranged_file import RangedFile, RangesUnavailableError
from acoustic.types import TrackFeatures
from deployments.batch.job_options import JobOptions
from deployments.batch.reader import Fetched, Reader
from deployments.batch.schema import FEATURES, error_columns, identity
from deployments.batch.source_file import SourceFile
from deployments.config import ServiceConfig

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class PreprocessStage:
    """Tables of FILES to tables of FEATURES: read, decode, log-mel.

    Args:
        checkpoint: folder of the checkpoint whose geometry is used.
        config: settings of the service.
        options: options of the job.
    """

    def __init__(self, checkpoint: Path, config: ServiceConfig, options: JobOptions) -> None:
        self._preprocessor = Preprocessor.from_folder(
            CheckpointFolder.open(checkpoint),
            config.preprocess,
            with_digest=options.content_digest,
        )
        self._reader = Reader(options.storage, options.read_threads, options.max_file_bytes)
        self._options = options

    def __call__(self, table: pa.Table) -> pa.Table:
        """Features or an error for every file of one chunk."""
        files = [SourceFile(**json.loads(text)) for text in table["file"].to_pylist()]
        if self._options.read == "ranged":
            rows = list(self._reader.each(files, self._process_ranged))
        else:
            rows = [self._process_whole(fetched) for fetched in self._reader.read(files)]
        return pa.Table.from_pylist(rows, schema=FEATURES)

    def _process_whole(self, fetched: Fetched) -> Row:
        begun_s = time.perf_counter()
        if fetched.error is not None:
            row = identity(fetched.file, max(0, fetched.file.size_bytes), "")
            return _failed(row, fetched.error, 0, begun_s)
        row = identity(fetched.file, len(fetched.data), fetched.etag)
        try:
            rounds = self._rounds_of(fetched.data)
        except Exception as error:  # an edge: one file never ends the job
            return _failed(row, _as_ours(error), len(fetched.data), begun_s)
        return _row(row, rounds, len(fetched.data), begun_s)

    def _process_ranged(self, file: SourceFile) -> Row:
        begun_s = time.perf_counter()
        if file.checksums:  # to verify them takes every byte
            return self._process_whole(self._reader.fetch(file))
        try:
            source, etag = self._reader.open_ranged(file)
        except AcousticError as error:
            return _failed(identity(file, max(0, file.size_bytes), ""), error, 0, begun_s)
        row = identity(file, source.size_bytes, etag)
        try:
            rounds = self._rounds_of_ranges(source)
        except Exception as error:  # an edge: one file never ends the job
            return _failed(row, _as_ours(error), source.fetched_bytes, begun_s)
        return _row(row, rounds, source.fetched_bytes, begun_s)

    def _rounds_of(self, data: bytes) -> list[TrackFeatures]:
        effort = self._options.request.effort
        return _rounds(lambda number: self._preprocessor.process(data, effort, number), InputError)

    def _rounds_of_ranges(self, source: RangedFile) -> list[TrackFeatures]:
        """Rounds from byte ranges; falls back to a full read, whose result counts."""
        effort, process = self._options.request.effort, self._preprocessor.process_ranged
        try:
            return _rounds(lambda number: process(source, effort, number), SilentAudioError)
        except (RangesUnavailableError, InputError):
            if source.failure is not None:
                raise source.failure from None
            return self._rounds_of(source.whole())


def _rounds(process: Callable[[int], TrackFeatures], last: type[InputError]) -> list[TrackFeatures]:
    """Features of every round of effort auto, or of the only round of the other efforts.

    Decoding is cheap beside the model, which evaluates the later rounds only if it needs them.

    Args:
        process: number of a round → its features.
        last: error of a later round that ends the list: the rest of the track is silent or
            damaged, and the answer is by the rounds before.
    """
    rounds = [process(0)]
    while rounds[-1].facts.n_remaining:
        try:
            rounds.append(process(len(rounds)))
        except last:
            break
    return rounds


def _row(row: Row, rounds: list[TrackFeatures], read_bytes: int, begun_s: float) -> Row:
    return {
        "row": json.dumps({**row, **_costs(read_bytes, begun_s)}),
        "content_blake3": rounds[0].facts.content_blake3 if rounds else "",
        "rounds": [sealed(features_to_bytes(each)) for each in rounds],
    }


def _failed(row: Row, error: AcousticError, read_bytes: int, begun_s: float) -> Row:
    return _row({**row, **error_columns(error)}, [], read_bytes, begun_s)


def _as_ours(error: Exception) -> AcousticError:
    if isinstance(error, AcousticError):
        return error
    logger.error("a file failed", exc_info=error)
    return ServiceError("preprocessing failed on this file")


def _costs(read_bytes: int, begun_s: float) -> Row:
    return {"read_bytes": read_bytes, "preprocess_s": time.perf_counter() - begun_s}
