"""`Classifier`: classifies files, arrays and folders in one process.

Threads decode files ahead while the model evaluates the windows of the files before:

    inputs ─▶ thread pool (decode, log-mel) ─▶ batches of files ─▶ model ─▶ answers, in order
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.classify.bisect import run_bisecting
from acoustic.classify.engine_config import Accelerator, Precision
from acoustic.content_cache import CacheConfig
from acoustic.errors import AcousticError
from acoustic.pipeline import evaluate_tracks
from acoustic.prediction import Prediction
from acoustic.request import Effort, RequestOptions
from acoustic.resources import usable_cpus
from acoustic.types import TrackFeatures, TrackLogits
from acousticsense.decode_ahead import DecodedTrack, decode, decode_batches, map_in_order
from acousticsense.guide import guide_row
from acousticsense.inputs import AudioInput, expand, read_input
from acousticsense.loading import open_pipeline
from deployments.config import BUILT_IN
from deployments.taxonomies import SUFFIXES, taxonomy_name

DEFAULT_WORKERS = 4
"""Threads that decode; more help only where the model runs on a GPU."""


class Classifier:
    """Classifies audio by genre, in this process.

    Thread-safe. Can be pickled; the copy loads the model again.

    Args:
        model: "default" (a string), or the folder of a checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        batch_size: files whose windows are evaluated together in `classify_many`.
        cache: None for no cache of features, a folder for one on disk, or its bounds.
        taxonomy: taxonomy of all answers, by name or as a YAML file; "" for the model's own genres.
        config: file of settings; None for the built-in one.
        content_digest: whether answers have the BLAKE3 digest of their file without a cache, too.

    Raises:
        CheckpointError: the model cannot be used.
        ConfigError: a setting does not fit this machine.

    >>> Classifier().classify("song.mp3").genre   # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path = BUILT_IN,
        device: Accelerator = "auto",
        precision: Precision = "auto",
        batch_size: int = 8,
        cache: CacheConfig | str | Path | None = None,
        *,
        taxonomy: str | Path = "",
        config: str | Path | None = None,
        content_digest: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, must be 1 or more")
        # absolute, because a pickled copy may be loaded where the working directory is another
        self._arguments: dict[str, Any] = {
            "model": model if model == BUILT_IN else Path(model).absolute(), "device": device,
            "precision": precision, "batch_size": batch_size, "cache": _absolute_cache(cache),
            "taxonomy": _absolute_file(taxonomy),
            "config": None if config is None else Path(config).absolute(),
            "content_digest": content_digest,
        }  # fmt: skip
        self.batch_size = batch_size
        self.pipeline = open_pipeline(
            config, model, device, precision, cache, str(taxonomy), content_digest
        )
        self._taxonomy = taxonomy_name(str(taxonomy))
        self.pipeline.postprocessor.labels_of(self._taxonomy)  # an unknown name fails here
        self._is_closed = False
        self._lock = threading.Lock()
        self._n_requests = self._n_cached = 0
        self._preprocess_s = self._inference_s = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the genres of the answers, in the model's order."""
        return self.pipeline.postprocessor.labels_of(self._taxonomy).names

    def classify(
        self,
        audio: AudioInput,
        *,
        effort: Effort = "balanced",
        top_k: int | None = None,
        coverage: float | None = None,
        timeline: bool = False,
        sets: bool = False,
    ) -> Prediction:
        """Classify one file.

        Args:
            audio: a path, the bytes of a file, a binary file object, `(waveform, sample_rate)`,
                or a mapping with "array" and "sampling_rate".
            effort: windows evaluated: fast 1, balanced 3, thorough 10, auto 3 to 10.
            top_k: number of genres in the answer; None for five.
            coverage: probability that the prediction set holds the true genre, 0.50 to 0.99.
            timeline: whether the answer lists every window's own best genre.
            sets: whether the answer lists the prediction sets of all coverages.

        Raises:
            InputError: the audio or an option is at fault.
            TypeError: `audio` is of another kind.
        """
        options = RequestOptions(
            effort=effort, top_k=top_k, coverage=coverage, timeline=timeline, sets=sets,
            taxonomy=self._taxonomy,
        )  # fmt: skip
        (outcome,) = self._evaluate([decode(self.pipeline.preprocessor, audio, options)])
        if isinstance(outcome, AcousticError):
            raise outcome
        return outcome

    def classify_many(
        self,
        inputs: AudioInput | Iterable[AudioInput],
        *,
        workers: int | None = None,
        effort: Effort = "balanced",
        top_k: int | None = None,
        coverage: float | None = None,
        timeline: bool = False,
        sets: bool = False,
    ) -> Iterator[Prediction | AcousticError]:
        """Classify many files; windows of several files share the model's batches.

        Args:
            inputs: what `classify` takes, a folder, whose audio files are taken in the order of
                their names, or an iterable of these; it is read as it is needed.
            workers: threads that decode, and as many that run the model where it is eager on a CPU;
                None for 4, or one per core where there are fewer.
            effort: see `classify`.
            top_k: see `classify`.
            coverage: see `classify`.
            timeline: see `classify`.
            sets: see `classify`.

        Yields:
            For each input, in order, its prediction, or the AcousticError that takes its place;
            the error's attribute `file` names the input.

        While inputs are decoded, BLAS uses one thread in this process.

        Raises:
            InvalidOptionError: an option is at fault.
            ValueError: `workers` is below 1.
            TypeError: while reading: an input is of an unknown kind; the iteration ends.
        """
        options = RequestOptions(
            effort=effort, top_k=top_k, coverage=coverage, timeline=timeline, sets=sets,
            taxonomy=self._taxonomy,
        )  # fmt: skip
        options.check_model(len(self.labels))
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}, must be 1 or more")
        return self._many(expand(inputs), options, workers)

    async def aclassify(self, audio: AudioInput, **options: Any) -> Prediction:
        """Classify one file without blocking the event loop; see `classify`."""
        return await asyncio.to_thread(self.classify, audio, **options)

    async def process_audio_batch(self, paths: Sequence[str | Path]) -> list[dict[str, Any]]:
        """The guide's call (its section 5.1): one `guide_row` per file, in order."""
        results = await asyncio.to_thread(
            lambda: list(self._many(iter(paths), RequestOptions(taxonomy=self._taxonomy)))
        )
        return [guide_row(str(p), each) for p, each in zip(paths, results, strict=True)]

    def embed(self, audio: AudioInput, *, effort: Effort = "balanced") -> npt.NDArray[np.float32]:
        """Features of a track before the model's head: (D,) float32, the mean over its windows.

        Args:
            audio: see `classify`.
            effort: windows evaluated; auto is taken for thorough.

        Raises:
            InputError: the audio is at fault.
        """
        wanted: Effort = "thorough" if effort == "auto" else effort
        features = self.pipeline.preprocessor.process(read_input(audio).data, wanted)
        pooled = self.pipeline.classifier.engine.outputs(features.log_mel).features
        return np.asarray(pooled.mean(axis=0), np.float32)

    def get_stats(self) -> dict[str, Any]:
        """Totals since the start, under the guide's keys (its section 5.1); times in seconds."""
        plan = self.pipeline.classifier.engine.plan
        with self._lock:
            n = self._n_requests
            return {
                "total_requests": n,
                "avg_preprocess_time": self._preprocess_s / n if n else 0.0,
                "avg_inference_time": self._inference_s / n if n else 0.0,
                "cache_hits": self._n_cached,
                "cache_hit_rate": self._n_cached / n if n else 0.0,
                "device": plan.device,
                "using_fp16": plan.precision == "fp16",
            }

    def close(self) -> None:
        """End the engine's threads; the classifier cannot be used afterwards."""
        self._is_closed = True
        self.pipeline.classifier.engine.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        info = self.pipeline.classifier.info
        return f"<Classifier {info.name} {info.version} on {info.device} in {info.precision}>"

    def _many(
        self, inputs: Iterator[AudioInput], options: RequestOptions, workers: int | None = None
    ) -> Iterator[Prediction | AcousticError]:
        n_workers = workers or min(DEFAULT_WORKERS, usable_cpus())
        batches = decode_batches(
            self.pipeline.preprocessor, inputs, options, self.batch_size, n_workers
        )
        n_calls = min(n_workers, self.pipeline.classifier.engine.max_calls)
        for outcomes in map_in_order(self._evaluate, batches, n_calls):
            yield from outcomes

    def _evaluate(self, batch: Sequence[DecodedTrack]) -> list[Prediction | AcousticError]:
        if self._is_closed:
            raise RuntimeError("the classifier is closed")
        outcomes = evaluate_tracks(
            self._classify_features,
            self.pipeline.postprocessor,
            [partial(each.features_of, self.pipeline.preprocessor) for each in batch],
            [each.options for each in batch],
        )
        for each, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, AcousticError):
                outcome.file = outcome.file or each.options.file
        self._count(outcomes)
        return outcomes

    def _classify_features(
        self, tracks: Sequence[TrackFeatures]
    ) -> Sequence[TrackLogits | Exception]:
        begun_s = time.perf_counter()
        results = run_bisecting(self.pipeline.classifier.classify, tracks)
        with self._lock:
            self._inference_s += time.perf_counter() - begun_s
        return results

    def _count(self, outcomes: Sequence[Prediction | AcousticError]) -> None:
        with self._lock:
            self._n_requests += len(outcomes)
            for each in outcomes:
                if isinstance(each, Prediction):
                    self._n_cached += each.cached
                    steps_ms = (ms for name, ms in each.timings_ms.items() if name != "inference")
                    self._preprocess_s += sum(steps_ms) / 1e3


def _absolute_cache(cache: CacheConfig | str | Path | None) -> CacheConfig | str | None:
    if isinstance(cache, CacheConfig):
        return replace(cache, folder=os.path.abspath(cache.folder)) if cache.folder else cache
    return None if cache is None else os.path.abspath(cache)


def _absolute_file(taxonomy: str | Path) -> str:
    """A taxonomy's file by its absolute path; a name stays."""
    name = str(taxonomy)
    return str(Path(name).absolute()) if name.endswith(SUFFIXES) else name
