"""Sends one file through the stages of a model, and turns Ray's errors into ours.

Either through three deployments, one for each stage, or to one deployment that holds all three.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import ray
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from acoustic.errors import (
    AcousticError,
    InputError,
    ModelMismatchError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from acoustic.postprocess.rounds import RoundResult, evaluate_in_rounds
from acoustic.prediction import Prediction
from acoustic.preprocess.ranged_file import FileParts, PartsError
from acoustic.request import RequestOptions
from acoustic.types import TrackFeatures

logger = logging.getLogger(__name__)

T = TypeVar("T")

N_ATTEMPTS = 2
"""A request is retried once if a replica died while processing it."""

LOOK_EARLIER_S = 1.0
"""Seconds after which the stages before the last are looked at, too."""

REPLICA_GONE = (RayActorError, ObjectLostError, ReplicaUnavailableError)

LOOK_S = 1.0
"""Seconds between two looks at whether an answer is late."""

MISMATCH_PAUSE_S = 0.5
"""Seconds before an attempt after replicas of two versions met: a rollout takes a moment."""


class _LateError(Exception):
    """An answer is late, and may be lost."""


@dataclass(frozen=True, slots=True)
class File:
    """A file on its way to stage 1.

    Attributes:
        data: its bytes, or a reference to them as (n,) uint8.
        content_blake3: digest of the bytes, "" if it is not known.
        parts: where the bytes lie in their file; None if they are all of it.
    """

    data: bytes | ray.ObjectRef
    content_blake3: str = ""
    parts: FileParts | None = None

    @property
    def n_bytes(self) -> int:
        """Length of the data, bytes; 0 where they are elsewhere."""
        return len(self.data) if isinstance(self.data, bytes) else 0

    def shared(self) -> File:
        """The file in the object store.

        Raises:
            OverloadedError: the store has no room.
        """
        assert isinstance(self.data, bytes)
        try:
            return replace(self, data=ray.put(np.frombuffer(self.data, np.uint8)))
        except RayError as error:
            logger.warning("the object store takes no file error=%s", type(error).__name__)
            raise OverloadedError("the service is busy: no room for the file; try again") from error

    def sent_by(self, handle: DeploymentHandle) -> DeploymentHandle:
        """The handle, by reference where the file is one: by value it would be copied again."""
        return handle if isinstance(self.data, bytes) else handle.options(_by_reference=True)


class Calls(Protocol):
    """Calls to the deployments of one model.

    Attributes:
        handles: handles by the name of what they answer for.
        last: handle to stage 3, whose facts have the digest of its settings.
    """

    handles: dict[str, DeploymentHandle]
    last: DeploymentHandle

    async def answer(self, file: File, options: RequestOptions) -> Prediction:
        """The answer about one file.

        Raises:
            AcousticError: the input or the service is at fault.
            Exception: one of REPLICA_GONE.
        """

    async def features(self, file: File, options: RequestOptions) -> TrackFeatures:
        """What stage 1 makes of one file, in the first round; raises as `answer`."""


class ThreeStages:
    """One deployment for each stage.

    Args:
        preprocess: handle to stage 1.
        classify: handle to stage 2.
        postprocess: handle to stage 3.
    """

    def __init__(
        self,
        preprocess: DeploymentHandle,
        classify: DeploymentHandle,
        postprocess: DeploymentHandle,
    ) -> None:
        self._preprocess, self._classify, self.last = preprocess, classify, postprocess
        self.handles = {
            "preprocess": preprocess,
            "classify": classify,
            "postprocess": postprocess,
        }

    async def answer(self, file: File, options: RequestOptions) -> Prediction:
        """One round, and for effort auto further ones while the answer is close."""
        rounds = evaluate_in_rounds()
        number = next(rounds)
        evaluated: list[DeploymentResponse] = []
        outcome: RoundResult | InputError
        while True:
            try:
                outcome = await self._round(file, options, number, evaluated)
            except InputError as error:
                outcome = error
            try:
                number = rounds.send(outcome)
            except StopIteration as end:
                prediction: Prediction = end.value
                return prediction

    async def features(self, file: File, options: RequestOptions) -> TrackFeatures:
        """One call to stage 1."""
        preprocess = file.sent_by(self._preprocess)
        call = preprocess.remote(file.data, options.effort, 0, file.content_blake3, file.parts)
        features: TrackFeatures = await _outcome(call)
        return features

    async def _round(
        self,
        file: File,
        options: RequestOptions,
        number: int,
        evaluated: list[DeploymentResponse],
    ) -> RoundResult:
        """Evaluate one round and answer by it and all before it.

        Nothing is awaited in between, so features and logits do not travel through the ingress,
        unless the answer is late; see `_last_result`.
        """
        preprocess = file.sent_by(self._preprocess)
        features = preprocess.remote(
            file.data, options.effort, number, file.content_blake3, file.parts
        )
        evaluated.append(self._classify.remote(features))
        answer = self.last.remote(options, *evaluated)
        result: RoundResult = await _outcome(features, evaluated[-1], answer)
        return result


class OneProcess:
    """One deployment that holds all three stages.

    Args:
        colocated: handle to it.
    """

    def __init__(self, colocated: DeploymentHandle) -> None:
        self.last = colocated
        self.handles = {"colocated": colocated}

    async def answer(self, file: File, options: RequestOptions) -> Prediction:
        """All rounds in one call."""
        handle = file.sent_by(self.last)
        call = handle.remote(file.data, options, file.content_blake3, file.parts)
        answer: Prediction = await _outcome(call)
        return answer

    async def features(self, file: File, options: RequestOptions) -> TrackFeatures:
        """One call to its stage 1."""
        handle = file.sent_by(self.last).features
        call = handle.remote(file.data, options.effort, file.content_blake3, file.parts)
        features: TrackFeatures = await _outcome(call)
        return features


Ask = Callable[[Calls, File, RequestOptions], Awaitable[T]]
"""A question about one file: `answer_of` or `features_of`."""


async def answer_of(calls: Calls, file: File, options: RequestOptions) -> Prediction:
    """See `Calls.answer`."""
    return await calls.answer(file, options)


async def features_of(calls: Calls, file: File, options: RequestOptions) -> TrackFeatures:
    """See `Calls.features`."""
    return await calls.features(file, options)


async def ask_with_retry(
    ask: Ask[T],
    calls: Calls,
    file: File,
    options: RequestOptions,
    retry_after_s: float,
    is_late: Callable[[], bool],
) -> T:
    """What the stages say about one file, asked again if a replica died meanwhile.

    A replica that dies may take the answer with it without an error: the stages are asked again,
    once, when it is late.

    Args:
        ask: the question.
        calls: the stages.
        file: the file.
        options: what is wanted.
        retry_after_s: seconds that callers are asked to wait if a queue is full.
        is_late: whether it is late by now.

    Raises:
        AcousticError: the input or the service is at fault; Ray's own errors never get out.
        PartsError: the parts of the file do not suffice.
    """
    for attempt in range(1, N_ATTEMPTS + 1):
        asked = ask(calls, file, options)
        try:
            return await (asked if attempt == N_ATTEMPTS else _unless(asked, is_late))
        except _LateError:
            logger.warning("the answer is late attempt=%d", attempt)
        except OverloadedError as error:
            error.retry_after_s = retry_after_s
            raise
        except ModelMismatchError as error:
            logger.warning("two versions of the model met attempt=%d: %s", attempt, error.message)
            await asyncio.sleep(MISMATCH_PAUSE_S)
        except REPLICA_GONE as error:
            logger.warning("replica died attempt=%d error=%s", attempt, type(error).__name__)
    raise UnavailableError(
        "a stage died while processing this request, or was replaced by another version; try again"
    )


async def _unless(asked: Awaitable[T], is_late: Callable[[], bool]) -> T:
    """The answer, or _LateError once it is late."""
    answer = asyncio.ensure_future(asked)
    try:
        while not answer.done():
            await asyncio.wait([answer], timeout=LOOK_S)
            if not answer.done() and is_late():
                raise _LateError
        return answer.result()
    finally:
        answer.cancel()
        answer.add_done_callback(_retrieved)


async def _outcome(*chain: DeploymentResponse) -> Any:
    """Result of the last of some calls that pass on their results; if one fails, all end."""
    try:
        return _raised(await _last_result(*chain))
    except asyncio.CancelledError:
        _cancel(*chain)
        raise
    except (InputError, PartsError):
        raise
    except Exception as error:  # over gRPC, Serve raises what a stage raised as it is
        _cancel(*chain)
        raise _translated(error) from error


def _raised(result: Any) -> Any:
    """A stage's result; the error that it returned is raised.

    Serve would write a traceback for an error that a stage raises, and a bad file is not a failure.
    """
    if isinstance(result, (InputError, PartsError)):
        raise result
    return result


async def _last_result(*chain: DeploymentResponse) -> Any:
    """Result of the last stage of a chain; after a while also the first error of any stage.

    Serve takes the error of a replica that was lost with its node, passed on as an argument, for
    an error of the replica that it is passed to, and tries again without end: the last stage alone
    would never answer.
    """
    *earlier, last = chain
    waiting = asyncio.ensure_future(_result(last))
    try:
        await asyncio.wait([waiting], timeout=LOOK_EARLIER_S)
        if not waiting.done():
            for response in earlier:
                await response
        return await waiting
    finally:
        waiting.cancel()
        waiting.add_done_callback(_retrieved)


def _retrieved(task: asyncio.Future[Any]) -> None:
    """Look at the error of a task that nobody waits for: asyncio would log it."""
    if not task.cancelled():
        task.exception()


async def _result(response: DeploymentResponse) -> Any:
    return await response


def _cancel(*chain: DeploymentResponse) -> None:
    """Cancel what still runs; one that no replica took raises its error again when cancelled."""
    for response in chain:
        with suppress(RayError, RayServeException):
            response.cancel()


def _translated(error: Exception) -> Exception:
    """AcousticError for any error of a stage or of Serve; a lost replica is left as it is."""
    cause: Exception = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RayTaskError):
        return _translated(cause)
    if isinstance(cause.__cause__, Exception) and isinstance(cause.__cause__, REPLICA_GONE):
        return cause.__cause__  # an earlier stage died: Serve wraps that error
    if isinstance(cause, BackPressureError):
        return OverloadedError("the service is busy: its queue is full; try again later")
    if isinstance(cause, DeploymentUnavailableError):
        return UnavailableError("a stage of the service is not available; try again later")
    if isinstance(cause, (AcousticError, *REPLICA_GONE)):
        return cause
    logger.error("a stage failed: %s: %s", type(error).__name__, error)
    return ServiceError("a stage of the service failed")
