"""`Classifier`: the library's front for files, arrays and folders, in one process.

Threads decode files ahead while the model evaluates the windows of the files before:

    inputs ─▶ thread pool (decode, log-mel) ─▶ batches of files ─▶ model ─▶ answers, in order
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from acoustic.classify.engine_config import Accelerator, Precision
from acoustic.errors import AcousticError
from acoustic.pipeline import evaluate_tracks
from acoustic.prediction import Prediction
from acoustic.preprocess.cache import CacheConfig
from acoustic.request import Effort, RequestOptions
from acoustic.types import TrackFeatures, TrackLogits
from acousticsense.guide import guide_row
from acousticsense.inputs import AudioInput, NamedAudio, expand, read_input
from acousticsense.loading import open_pipeline
from deployments.config import BUILT_IN

DEFAULT_WORKERS = 4
"""Threads that decode; more help only where the model runs on a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Decoded:
    """A file after stage 1.

    Attributes:
        options: what is wanted of it, with its name.
        audio: its bytes, kept only where effort auto may need further rounds.
        features: features of the first round, or why there are none.
    """

    options: RequestOptions
    audio: NamedAudio | None
    features: TrackFeatures | AcousticError


class Classifier:
    """Classifies audio by genre, in this process.

    Thread-safe. Can be pickled; the copy loads the model again.

    Args:
        model: "default", or the folder of a checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        batch_size: files whose windows are evaluated together in `classify_many`.
        cache: None for no cache of features, a folder for one on disk, or its bounds.
        config: file of settings; None for the built-in one.

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
        config: str | Path | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, must be 1 or more")
        self._arguments: dict[str, Any] = {
            "model": model, "device": device, "precision": precision, "batch_size": batch_size,
            "cache": cache, "config": config,
        }  # fmt: skip
        self.batch_size = batch_size
        self.pipeline = open_pipeline(config, model, device, precision, cache)
        self._lock = threading.Lock()
        self._n_requests = self._n_cached = 0
        self._preprocess_ms = self._inference_ms = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the genres, in the model's order."""
        return self.pipeline.postprocessor.labels.names

    def classify(
        self,
        audio: AudioInput,
        *,
        effort: Effort = "balanced",
        top_k: int | None = None,
        coverage: float | None = None,
        timeline: bool = False,
    ) -> Prediction:
        """Classify one file.

        Args:
            audio: a path, the bytes of a file, a binary file object, `(waveform, sample_rate)`,
                or a mapping with "array" and "sampling_rate".
            effort: windows evaluated: fast 1, balanced 3, thorough 10, auto 3 to 10.
            top_k: number of genres in the answer; None for five.
            coverage: probability that the prediction set holds the true genre, 0.50 to 0.99.
            timeline: whether the answer lists every window's own best genre.

        Raises:
            InputError: the audio or an option is at fault.
            TypeError: `audio` is of another kind.
        """
        options = RequestOptions(effort=effort, top_k=top_k, coverage=coverage, timeline=timeline)
        (outcome,) = self._evaluate([self._decode(audio, options)])
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
    ) -> Iterator[Prediction | AcousticError]:
        """Classify many files; windows of several files share the model's batches.

        Args:
            inputs: a folder, whose audio files are taken in the order of their names, or an
                iterable of what `classify` takes; it is read as it is needed.
            workers: threads that decode; None for 4, or one per core where there are fewer.
            effort: see `classify`.
            top_k: see `classify`.
            coverage: see `classify`.
            timeline: see `classify`.

        Yields:
            For each input, in order, its prediction, or the AcousticError that takes its place;
            the error's attribute `file` names the input.

        Raises:
            InvalidOptionError: an option is at fault.
        """
        options = RequestOptions(effort=effort, top_k=top_k, coverage=coverage, timeline=timeline)
        options.check_model(len(self.labels))
        n_workers = workers or min(DEFAULT_WORKERS, os.cpu_count() or 1)
        return self._many(expand(inputs), options, n_workers)

    async def aclassify(self, audio: AudioInput, **options: Any) -> Prediction:
        """Classify one file without blocking the event loop; see `classify`."""
        return await asyncio.to_thread(self.classify, audio, **options)

    async def process_audio_batch(self, paths: Sequence[str | Path]) -> list[dict[str, Any]]:
        """The guide's call (its section 5.1): one `guide_row` per file, in order."""
        results = await asyncio.to_thread(lambda: list(self.classify_many(list(paths))))
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
        _, pooled = self.pipeline.classifier.engine.logits_and_features(features.log_mel)
        return np.asarray(pooled.mean(axis=0), np.float32)

    def get_stats(self) -> dict[str, Any]:
        """Totals since the start, under the guide's keys (its section 5.1); times in seconds."""
        plan = self.pipeline.classifier.engine.plan
        with self._lock:
            n = self._n_requests
            return {
                "total_requests": n,
                "avg_preprocess_time": self._preprocess_ms / 1e3 / n if n else 0.0,
                "avg_inference_time": self._inference_ms / 1e3 / n if n else 0.0,
                "cache_hits": self._n_cached,
                "cache_hit_rate": self._n_cached / n if n else 0.0,
                "device": plan.device,
                "using_fp16": plan.precision == "fp16",
            }

    def close(self) -> None:
        """End the engine's thread; the classifier cannot be used afterwards."""
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
        self, inputs: Iterator[AudioInput], options: RequestOptions, n_workers: int
    ) -> Iterator[Prediction | AcousticError]:
        # BLAS would start a thread per core for every mel spectrogram, in every worker: with the
        # pool that is slower than one thread each.
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(n_workers, thread_name_prefix="decode") as pool,
        ):
            ahead: deque[Future[_Decoded]] = deque()
            n_ahead = self.batch_size + n_workers  # a batch in the model, and work for every thread
            for each in itertools.islice(inputs, n_ahead):
                ahead.append(pool.submit(self._decode, each, options))
            try:
                while ahead:
                    n_batch = min(self.batch_size, len(ahead))
                    batch = [ahead.popleft().result() for _ in range(n_batch)]
                    for each in itertools.islice(inputs, n_batch):
                        ahead.append(pool.submit(self._decode, each, options))
                    yield from self._evaluate(batch)
            finally:
                for future in ahead:  # the caller stopped early
                    future.cancel()

    def _decode(self, audio: AudioInput, options: RequestOptions) -> _Decoded:
        name = str(audio) if isinstance(audio, (str, Path)) else ""
        try:
            named = read_input(audio)
            options = replace(options, file=os.path.basename(named.name)[:255])
            name = named.name
            features = self.pipeline.preprocessor.process(named.data, options.effort)
        except AcousticError as error:
            error.file = name
            return _Decoded(options=options, audio=None, features=error)
        kept = named if features.facts.n_remaining else None
        return _Decoded(options=options, audio=kept, features=features)

    def _evaluate(self, batch: Sequence[_Decoded]) -> list[Prediction | AcousticError]:
        def source(decoded: _Decoded) -> Any:
            def features(number: int) -> TrackFeatures:
                if number == 0:
                    if isinstance(decoded.features, AcousticError):
                        raise decoded.features
                    return decoded.features
                data = cast(NamedAudio, decoded.audio).data
                return self.pipeline.preprocessor.process(data, decoded.options.effort, number)

            return features

        outcomes = evaluate_tracks(
            self._classify_features,
            self.pipeline.postprocessor,
            [source(each) for each in batch],
            [each.options for each in batch],
        )
        self._count(outcomes)
        return outcomes

    def _classify_features(self, tracks: Sequence[TrackFeatures]) -> list[TrackLogits]:
        return self.pipeline.classifier.classify(tracks)

    def _count(self, outcomes: Sequence[Prediction | AcousticError]) -> None:
        with self._lock:
            self._n_requests += len(outcomes)
            for each in outcomes:
                if isinstance(each, AcousticError):
                    continue
                self._n_cached += each.cached
                inference_ms = each.timings_ms.get("inference", 0.0)
                self._inference_ms += inference_ms
                self._preprocess_ms += sum(each.timings_ms.values()) - inference_ms
