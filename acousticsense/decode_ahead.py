"""Decodes inputs in threads, ahead of the model, which takes several batches at once on a CPU."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike
from typing import TypeVar

from threadpoolctl import threadpool_limits

from acoustic.errors import AcousticError
from acoustic.file_walk import printable
from acoustic.preprocess.preprocessor import Preprocessor
from acoustic.request import MAX_NAME_CHARACTERS, RequestOptions
from acoustic.types import TrackFeatures
from acousticsense.inputs import AudioInput, read_input

Batch = TypeVar("Batch")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedTrack:
    """An input after stage 1.

    Attributes:
        options: what is wanted of it, with its name.
        data: content of the file, kept only where effort auto may need further rounds.
        features: features of the first round, or why there are none.
    """

    options: RequestOptions
    data: bytes
    features: TrackFeatures | AcousticError

    def features_of(self, preprocessor: Preprocessor, round_number: int) -> TrackFeatures:
        """Features of a round; those of the first one are there already.

        Raises:
            AcousticError: there are none.
        """
        if round_number:
            return preprocessor.process(self.data, self.options.effort, round_number)
        if isinstance(self.features, AcousticError):
            raise self.features
        return self.features


def decode(preprocessor: Preprocessor, audio: AudioInput, options: RequestOptions) -> DecodedTrack:
    """Read and decode one input.

    Args:
        preprocessor: stage 1.
        audio: the input.
        options: what is wanted; the input's name is added to it.

    Raises:
        TypeError: `audio` is of an unknown kind.
    """
    name = str(audio) if isinstance(audio, (str, PathLike)) else ""
    try:
        named = read_input(audio)
        name = named.name
        features = preprocessor.process(named.data, options.effort)
    except AcousticError as error:
        error.file = printable(name)
        return DecodedTrack(options=options, data=b"", features=error)
    options = replace(options, file=printable(name)[-MAX_NAME_CHARACTERS:])
    data = named.data if features.facts.n_remaining else b""
    return DecodedTrack(options=options, data=data, features=features)


def decode_batches(
    preprocessor: Preprocessor,
    inputs: Iterator[AudioInput],
    options: RequestOptions,
    batch_size: int,
    n_workers: int,
) -> Generator[list[DecodedTrack]]:
    """Decode inputs in threads; while a batch is used, the next ones are decoded.

    Args:
        preprocessor: stage 1.
        inputs: read as they are needed.
        options: what is wanted of each.
        batch_size: tracks per batch; the last one may be smaller.
        n_workers: threads.

    Yields:
        Batches, in the order of the inputs.
    """
    with _ONE_BLAS_THREAD, ThreadPoolExecutor(n_workers, thread_name_prefix="decode") as pool:
        ahead: deque[Future[DecodedTrack]] = deque()

        def submit(n: int) -> None:
            for each in itertools.islice(inputs, n):
                ahead.append(pool.submit(decode, preprocessor, each, options))

        submit(batch_size + n_workers)  # a batch for the model, and work for every thread
        try:
            while ahead:
                n_batch = min(batch_size, len(ahead))
                batch = [ahead.popleft().result() for _ in range(n_batch)]
                submit(n_batch)
                yield batch
        finally:
            for future in ahead:  # the caller stopped early
                future.cancel()


def map_in_order(
    function: Callable[[Batch], Result], batches: Generator[Batch], n_calls: int
) -> Generator[Result]:
    """Apply a function to batches in threads.

    Args:
        function: called with one batch, from several threads.
        batches: closed at the end.
        n_calls: most calls at the same time.

    Yields:
        Results in the order of the batches, each as soon as it is its turn. What `batches` raises
        comes after the results of the batches before it.
    """
    failure: Exception | None = None
    ahead: deque[Future[Result]] = deque()
    with closing(batches), ThreadPoolExecutor(n_calls, thread_name_prefix="model") as pool:
        try:
            while failure is None:
                try:
                    ahead.append(pool.submit(function, next(batches)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                while ahead and (len(ahead) >= n_calls or ahead[0].done()):
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:  # the caller stopped early
                future.cancel()
    if failure is not None:
        raise failure


class _OneBlasThread:
    """Keeps BLAS on one thread in this process while at least one holder is inside.

    BLAS would start a thread per core for every mel spectrogram, in every worker: with the pool
    that is slower than one thread each. The limit belongs to the process, so that holders share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_holders = 0
        self._limit: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_holders:
                self._limit = threadpool_limits(1, user_api="blas")
            self._n_holders += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._n_holders -= 1
            if not self._n_holders and self._limit is not None:
                self._limit.restore_original_limits()


_ONE_BLAS_THREAD = _OneBlasThread()
