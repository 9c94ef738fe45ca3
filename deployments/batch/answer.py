"""The second stage of a batch job: features to rows, by the model and all of postprocessing."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from acoustic.classify.classifier import Classifier
from acoustic.errors import AcousticError, ClassificationError
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import merge_rounds
from acoustic.prediction import Prediction
from acoustic.preprocess.cache import features_from_bytes
from acoustic.types import TrackFeatures, TrackLogits
from deployments.batch.options import JobOptions
from deployments.batch.schema import answer_columns, error_columns
from deployments.batch.tables import ROWS
from deployments.coalescer import run_bisecting
from deployments.config import ServiceConfig


class Answer:
    """HEARD to ROWS.

    Args:
        checkpoint: folder of the model.
        config: settings of the service.
        options: of the job.
    """

    def __init__(self, checkpoint: Path, config: ServiceConfig, options: JobOptions) -> None:
        self._classifier = Classifier.from_folder(checkpoint, config.engine)
        self._postprocessor = Postprocessor.from_folder(checkpoint, config.postprocess)
        self._options = options

    def __call__(self, table: pa.Table) -> pa.Table:
        """One chunk."""
        begun_s = time.perf_counter()
        rows = [json.loads(text) for text in table["row"].to_pylist()]
        hashes, stored = table["content_sha256"].to_pylist(), table["rounds"].to_pylist()
        tracks = {
            i: [_restore(entry, hashes[i]) for entry in rounds]
            for i, rounds in enumerate(stored)
            if rounds
        }
        for i, outcome in self._answers(tracks).items():
            if isinstance(outcome, AcousticError):
                rows[i] |= error_columns(outcome)
            else:
                rows[i] |= answer_columns(outcome)
        share_s = (time.perf_counter() - begun_s) / max(1, len(rows))
        texts = [json.dumps({**row, "classify_s": share_s}) for row in rows]
        return pa.Table.from_pydict({"row": texts}, schema=ROWS)

    def _answers(
        self, tracks: dict[int, list[TrackFeatures]]
    ) -> dict[int, Prediction | AcousticError]:
        """Position → answer; windows of all tracks share the model's batches, round by round."""
        heard: dict[int, list[TrackLogits]] = {i: [] for i in tracks}
        answers: dict[int, Prediction | AcousticError] = {}
        pending = list(tracks)
        while pending:
            batch = [tracks[i][len(heard[i])] for i in pending]
            outcomes = run_bisecting(self._classifier.classify, batch)
            still = []
            for i, outcome in zip(pending, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    answers[i] = ClassificationError("the model failed on this track")
                    continue
                heard[i].append(outcome)
                try:
                    answers[i] = prediction = self._answer(heard[i])
                except AcousticError as error:
                    answers[i] = error
                    continue
                if prediction.listen_on and len(heard[i]) < len(tracks[i]):
                    still.append(i)
            pending = still
        return answers

    def _answer(self, rounds: list[TrackLogits]) -> Prediction:
        return self._postprocessor.process(
            merge_rounds(rounds), top_k=self._options.top_k, coverage=self._options.coverage
        )


def _restore(entry: bytes, content_sha256: str) -> TrackFeatures:
    features = features_from_bytes(entry, content_sha256)
    if features is None:
        raise ValueError("features were damaged on their way between two stages")
    return replace(features, cached=False)
