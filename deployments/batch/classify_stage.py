"""Second stage of a batch job: features to rows, by the model and all of postprocessing."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.bisect import run_bisecting
from acoustic.classify.classifier import Classifier
from acoustic.content_cache import unsealed
from acoustic.errors import AcousticError, SilentAudioError
from acoustic.pipeline import evaluate_tracks
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.preprocess.cache import features_from_bytes
from acoustic.types import TrackFeatures, TrackLogits
from deployments.batch.job_options import JobOptions
from deployments.batch.schema import ROWS, answer_columns, error_columns
from deployments.config import ServiceConfig


class ClassifyStage:
    """Tables of FEATURES to tables of ROWS.

    Args:
        checkpoint: folder of the model.
        config: settings of the service.
        options: options of the job.
    """

    def __init__(self, checkpoint: Path, config: ServiceConfig, options: JobOptions) -> None:
        folder = CheckpointFolder.open(checkpoint)
        self._classifier = Classifier.from_folder(folder, config.engine)
        self._postprocessor = Postprocessor.from_folder(folder, config.postprocess)
        self._options = options

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of one chunk of files; files without features keep the error they have."""
        begun_s = time.perf_counter()
        rows = [json.loads(text) for text in table["row"].to_pylist()]
        hashes, stored = table["content_blake3"].to_pylist(), table["rounds"].to_pylist()
        tracks = [i for i, rounds in enumerate(stored) if rounds]
        sources = [functools.partial(_restore_round, stored[i], hashes[i]) for i in tracks]
        outcomes = evaluate_tracks(
            self._classify, self._postprocessor, sources, [self._options.request] * len(tracks)
        )
        for i, outcome in zip(tracks, outcomes, strict=True):
            if isinstance(outcome, AcousticError):
                rows[i] |= error_columns(outcome)
            else:
                rows[i] |= answer_columns(outcome)
        share_s = (time.perf_counter() - begun_s) / max(1, len(rows))
        texts = [json.dumps({**row, "classify_s": share_s}) for row in rows]
        return pa.Table.from_pydict({"row": texts}, schema=ROWS)

    def _classify(self, tracks: Sequence[TrackFeatures]) -> list[TrackLogits | Exception]:
        return run_bisecting(self._classifier.classify, tracks)


def _restore_round(rounds: list[bytes], content_blake3: str, number: int) -> TrackFeatures:
    """Features of a round that the first stage decoded.

    Raises:
        SilentAudioError: the first stage found no more sound, so the answer is by the rounds
            before.
        ValueError: the bytes were damaged between the stages.
    """
    if number >= len(rounds):
        raise SilentAudioError("no further round could be decoded")
    content = unsealed(rounds[number])
    if content is None:
        raise ValueError("features were damaged on their way between two stages")
    features = features_from_bytes(content, content_blake3)
    return replace(features, facts=replace(features.facts, cached=False))
