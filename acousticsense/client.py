"""`Client` and `AsyncClient`: ask a running service; the results are those of `Classifier`.

    client.classify_many(paths) ─▶ a few requests at a time ─▶ answers, in order

Files are sent as they are read, and a request that was refused for overload, or whose connection
broke, is sent again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from acoustic.errors import (
    AcousticError,
    ConfigError,
    FileUnreadableError,
    ServiceError,
    UnavailableError,
)
from acoustic.file_walk import printable
from acoustic.prediction import Prediction
from acoustic.request import MAX_NAME_CHARACTERS, Effort, RequestOptions
from acousticsense.inputs import AudioInput, expand, read_input
from deployments.http.restore import error_of, prediction_of

try:
    import httpx
except ImportError as missing:
    raise ConfigError(
        "the client needs the package httpx: pip install 'acousticsense[client]'"
    ) from missing

LOCAL = "http://127.0.0.1:8000"
API_KEY_VARIABLE = "ACOUSTICSENSE_API_KEY"
PATH = "/v1/classify"
CONCURRENCY = 4
CHUNK_BYTES = 256 << 10
MIN_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
RETRIED = ("overloaded", "unavailable")
"""Codes of errors after which the same request is sent again."""

Result = Prediction | AcousticError
Progress = Callable[[int], None]
"""Called with the number of results so far."""


@dataclass(frozen=True, slots=True)
class _Upload:
    """One input on its way: its name, and its content or the file that has it."""

    name: str
    source: bytes | Path

    @classmethod
    def of(cls, audio: AudioInput) -> _Upload:
        """Raises FileUnreadableError, UnsupportedAudioError or TypeError, as `Classifier`."""
        if isinstance(audio, (str, PathLike)):
            path = Path(audio)
            if not path.is_file():
                raise FileUnreadableError(f"{printable(str(path))} cannot be read: no such file")
            return cls(printable(str(audio))[-MAX_NAME_CHARACTERS:], path)
        named = read_input(audio)
        return cls(printable(named.name)[-MAX_NAME_CHARACTERS:], named.data)

    @property
    def n_bytes(self) -> int:
        if isinstance(self.source, bytes):
            return len(self.source)
        return self.source.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """The content, read as it is sent."""
        if isinstance(self.source, bytes):
            yield self.source
            return
        try:
            with self.source.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise FileUnreadableError(f"{self.name} cannot be read: {error.strerror}") from error

    async def achunks(self) -> AsyncIterator[bytes]:
        """The same without blocking the event loop."""
        chunks = self.chunks()
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


class _Settings:
    """What both clients share: where to send, options as a query, when to try again."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float, patience_s: float) -> None:
        if timeout_s <= 0 or patience_s < 0:
            raise ValueError("timeout_s must be positive, patience_s must not be negative")
        key = os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key
        self.url = url.rstrip("/")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.timeout_s, self.patience_s = timeout_s, patience_s
        self.has_answered = False

    def arguments(self) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "headers": self.headers,
            "timeout": self.timeout_s,
            "trust_env": False,
        }

    @staticmethod
    def query(options: RequestOptions, upload: _Upload) -> dict[str, str]:
        named = {
            "effort": options.effort,
            "top_k": options.top_k,
            "coverage": options.coverage,
            "timeline": "true" if options.timeline else None,
            "sets": "true" if options.sets else None,
            "model": options.model or None,
            "taxonomy": options.taxonomy or None,
            "file": upload.name or None,
        }
        return {name: str(value) for name, value in named.items() if value is not None}

    def unreachable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"{self.url} does not answer: {type(error).__name__}: {error}")


class _Tries:
    """Decides whether and when one request is sent again."""

    def __init__(self, patience_s: float) -> None:
        self._until_s = time.monotonic() + patience_s
        self._pause_s = MIN_PAUSE_S

    def pause_s(self, error: AcousticError, retry_after_s: float | None) -> float:
        """Seconds to wait before the next try.

        Raises:
            AcousticError: the error itself, if another try is of no use or patience has ended.
        """
        pause_s = self._pause_s if retry_after_s is None else retry_after_s
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        if error.code not in RETRIED or time.monotonic() + pause_s > self._until_s:
            raise error
        return pause_s


class Client:
    """Asks a service, like `Classifier` asks a model in this process. Thread-safe.

    Args:
        url: address of the service.
        api_key: its key; None for the one in the environment (ACOUSTICSENSE_API_KEY).
        timeout_s: seconds of silence after which a try fails.
        patience_s: seconds for which a request that was refused, or whose connection broke, is
            sent again; a service that has never answered is not waited for.

    >>> Client().classify("song.mp3").genre   # doctest: +SKIP
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        patience_s: float = 120.0,
    ) -> None:
        self._settings = _Settings(url, api_key, timeout_s, patience_s)
        self._http = httpx.Client(**self._settings.arguments())

    def classify(
        self,
        audio: AudioInput,
        *,
        effort: Effort = "balanced",
        top_k: int | None = None,
        coverage: float | None = None,
        timeline: bool = False,
        sets: bool = False,
        model: str = "",
        taxonomy: str = "",
    ) -> Prediction:
        """Classify one file.

        Args:
            audio: see `Classifier.classify`.
            effort: windows evaluated: fast 1, balanced 3, thorough 10, auto 3 to 10.
            top_k: number of genres in the answer; None for five.
            coverage: probability that the prediction set holds the true genre, 0.50 to 0.99.
            timeline: whether the answer lists every window's own best genre.
            sets: whether the answer lists the prediction sets of all coverages.
            model: name of a model of the service; "" for its default.
            taxonomy: name of a taxonomy of the service; "" for the model's own genres.

        Raises:
            AcousticError: the class of the service's error; UnavailableError where it does not
                answer.
            TypeError: `audio` is of another kind.
        """
        options = RequestOptions(
            effort=effort, top_k=top_k, coverage=coverage, timeline=timeline, sets=sets,
            model=model, taxonomy=taxonomy,
        )  # fmt: skip
        return self._send(_Upload.of(audio), options)

    def classify_many(
        self,
        inputs: AudioInput | Iterable[AudioInput],
        *,
        concurrency: int = CONCURRENCY,
        on_progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[Result]:
        """Classify many files, several at a time.

        Args:
            inputs: what `classify` takes, a folder, or an iterable of these, read as it is needed.
            concurrency: requests at a time.
            on_progress: called with the number of results after each.
            options: see `classify`.

        Yields:
            For each input, in order, its prediction or the AcousticError that takes its place; the
            error's attribute `file` names the input.

        Raises:
            InvalidOptionError: an option is at fault.
            ValueError: `concurrency` is below 1.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, must be 1 or more")
        return self._many(expand(inputs), RequestOptions(**options), concurrency, on_progress)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the genres of the service's default model, in its order.

        Raises:
            AcousticError: the class of the service's error; UnavailableError where it does not
                answer.
        """
        try:
            reply = self._http.get("/v1/labels")
        except httpx.TransportError as error:
            raise self._settings.unreachable(error) from error
        if reply.status_code != 200:
            outcome, _ = _outcome(reply)
            assert isinstance(outcome, AcousticError)
            raise outcome
        return tuple(each["name"] for each in reply.json()["labels"])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _many(
        self,
        inputs: Iterator[AudioInput],
        options: RequestOptions,
        concurrency: int,
        on_progress: Progress | None,
    ) -> Iterator[Result]:
        with ThreadPoolExecutor(concurrency, thread_name_prefix="client") as pool:
            ahead: deque[Future[Result]] = deque()
            n_done = 0
            try:
                for audio in inputs:
                    ahead.append(pool.submit(self._try, audio, options))
                    # twice as many as run: a slow one at the front keeps none of the others idle
                    if len(ahead) >= 2 * concurrency:
                        yield ahead.popleft().result()
                        n_done += 1
                        _report(on_progress, n_done)
                while ahead:
                    yield ahead.popleft().result()
                    n_done += 1
                    _report(on_progress, n_done)
            finally:
                for future in ahead:  # the caller stopped early
                    future.cancel()

    def _try(self, audio: AudioInput, options: RequestOptions) -> Result:
        name = str(audio) if isinstance(audio, (str, PathLike)) else ""
        try:
            return self._send(_Upload.of(audio), options)
        except AcousticError as error:
            error.file = printable(name)
            return error

    def _send(self, upload: _Upload, options: RequestOptions) -> Prediction:
        tries = _Tries(self._settings.patience_s)
        while True:
            try:
                reply = self._http.post(
                    PATH,
                    params=self._settings.query(options, upload),
                    content=upload.chunks(),
                    headers={"content-length": str(upload.n_bytes)},
                )
                outcome, retry_after_s = _outcome(reply)
                self._settings.has_answered = True
            except httpx.TransportError as error:
                outcome, retry_after_s = self._settings.unreachable(error), None
                if not self._settings.has_answered:  # a wrong address is not waited for
                    raise outcome from error
            if isinstance(outcome, Prediction):
                return outcome
            time.sleep(tries.pause_s(outcome, retry_after_s))


class AsyncClient:
    """`Client` for an event loop; see there.

    >>> async def main():   # doctest: +SKIP
    ...     async with AsyncClient() as client:
    ...         print((await client.classify("song.mp3")).genre)
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        patience_s: float = 120.0,
    ) -> None:
        self._settings = _Settings(url, api_key, timeout_s, patience_s)
        self._http = httpx.AsyncClient(**self._settings.arguments())

    async def classify(self, audio: AudioInput, **options: Any) -> Prediction:
        """Classify one file; arguments and errors are those of `Client.classify`."""
        return await self._send(_Upload.of(audio), RequestOptions(**options))

    async def classify_many(
        self,
        inputs: AudioInput | Iterable[AudioInput],
        *,
        concurrency: int = CONCURRENCY,
        on_progress: Progress | None = None,
        **options: Any,
    ) -> AsyncIterator[Result]:
        """Classify many files, several at a time; see `Client.classify_many`."""
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, must be 1 or more")
        wanted = RequestOptions(**options)
        slots = asyncio.Semaphore(concurrency)
        ahead: deque[asyncio.Task[Result]] = deque()
        n_done = 0
        try:
            for audio in expand(inputs):
                ahead.append(asyncio.create_task(self._try(audio, wanted, slots)))
                if len(ahead) >= 2 * concurrency:
                    yield await ahead.popleft()
                    n_done += 1
                    _report(on_progress, n_done)
            while ahead:
                yield await ahead.popleft()
                n_done += 1
                _report(on_progress, n_done)
        finally:
            for task in ahead:  # the caller stopped early
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _try(
        self, audio: AudioInput, options: RequestOptions, slots: asyncio.Semaphore
    ) -> Result:
        name = str(audio) if isinstance(audio, (str, PathLike)) else ""
        try:
            async with slots:
                return await self._send(_Upload.of(audio), options)
        except AcousticError as error:
            error.file = printable(name)
            return error

    async def _send(self, upload: _Upload, options: RequestOptions) -> Prediction:
        tries = _Tries(self._settings.patience_s)
        while True:
            try:
                reply = await self._http.post(
                    PATH,
                    params=self._settings.query(options, upload),
                    content=upload.achunks(),
                    headers={"content-length": str(upload.n_bytes)},
                )
                outcome, retry_after_s = _outcome(reply)
                self._settings.has_answered = True
            except httpx.TransportError as error:
                outcome, retry_after_s = self._settings.unreachable(error), None
                if not self._settings.has_answered:  # a wrong address is not waited for
                    raise outcome from error
            if isinstance(outcome, Prediction):
                return outcome
            await asyncio.sleep(tries.pause_s(outcome, retry_after_s))


def _outcome(reply: httpx.Response) -> tuple[Result, float | None]:
    """The answer or the error in a reply, and the seconds of its Retry-After."""
    stated = reply.headers.get("retry-after", "")
    retry_after_s = float(stated) if stated.isdigit() else None
    try:
        body = reply.json()
        if reply.status_code == 200:
            return prediction_of(body), None
        error = body["error"]
        return error_of(error["code"], error["message"], retry_after_s), retry_after_s
    except (ValueError, KeyError, TypeError):  # not of this service: a proxy's page
        text = f"the reply is {reply.status_code} and no answer of the service"
        is_passing = reply.status_code in (429, 502, 503, 504)
        return (UnavailableError if is_passing else ServiceError)(text), retry_after_s


def _report(on_progress: Progress | None, n_done: int) -> None:
    if on_progress is not None:
        on_progress(n_done)
