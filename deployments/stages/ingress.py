"""Ingress deployment: runs the Starlette app and chains the three stages.

Pure Python on purpose: no native decoder runs here, because a crash of the ingress loses its
requests, while a crash of a replica behind it only costs one retry.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from starlette.applications import Starlette

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import (
    AcousticError,
    InputError,
    InvalidOptionError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
    UnavailableError,
)
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import RoundResult, evaluate_in_rounds
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from acoustic.resources import snapshot
from deployments.config import API_KEY_VARIABLE, ServiceConfig
from deployments.http.api import create_app
from deployments.stages.admission import Admission
from deployments.stages.chain import Chain
from deployments.telemetry.logs import use_serve_logger
from deployments.telemetry.requests import RequestMetrics
from deployments.telemetry.resources import ResourceMetrics

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 5.0
N_ATTEMPTS = 2
"""A request is retried once if a replica died while processing it."""

READY_AFTER_ANSWER_S = 10.0
"""Seconds after an answer during which the service counts as ready, whatever its queues."""

LATE_S = 1.0
"""Seconds after which an answer is late: the stages before the last are then looked at too."""

REPLICA_GONE = (RayActorError, ObjectLostError, ReplicaUnavailableError)


class Ingress:
    """Implements `api.Service` on handles to the three stages.

    Args:
        preprocess: handle to stage 1.
        classify: handle to stage 2.
        postprocess: handle to stage 3.
        config: settings of the service.
        others: name of a further model → handles to its stages, in their order.
    """

    def __init__(
        self,
        preprocess: DeploymentHandle,
        classify: DeploymentHandle,
        postprocess: DeploymentHandle,
        config: ServiceConfig,
        others: dict[str, tuple[DeploymentHandle, ...]] | None = None,
    ) -> None:
        use_serve_logger()
        self._config = config
        handles = {"": (preprocess, classify, postprocess), **(others or {})}
        self._chains = {
            name: Chain(
                name=name,
                folder=folder,
                answers=Postprocessor.from_folder(folder, config.postprocess),
                preprocess=first,
                classify=second,
                postprocess=third,
            )
            for name, (first, second, third) in handles.items()
            for folder in (CheckpointFolder.open(config.model_folder(name)),)
        }
        self._admission = {name: Admission(config.http.max_wait_s) for name in self._chains}
        self._window_bytes = 0
        self._metrics = RequestMetrics(self._chains[""].answers.calibration)
        self._resources = ResourceMetrics()
        self._last_answer_s = -math.inf

    def __serve_build_asgi_app__(self) -> Starlette:
        """ASGI application of this replica; Serve calls this."""
        api_key = os.environ.get(API_KEY_VARIABLE, "")
        return create_app(self, self._config.http, api_key=api_key, echo_request_id=False)

    async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
        """Classify one file through the chain.

        Raises:
            AcousticError: the input or the service is at fault; Ray's own errors never get out.
        """
        start_s = time.perf_counter()
        try:
            chain = self._chain_of(options.model)
            chain.check(options)
            with (
                self._admission[chain.name].admitted(),
                self._windows_in_flight(chain.window_bytes(options.effort)),
            ):
                async with asyncio.timeout(self._config.http.request_timeout_s):
                    prediction = await self._classify_with_retry(chain, data, options)
        except TimeoutError as error:
            self._metrics.count_error(RequestTimeoutError.code)
            limit_s = self._config.http.request_timeout_s
            raise RequestTimeoutError(f"no answer within {limit_s:g} s") from error
        except AcousticError as error:
            self._metrics.count_error(error.code)
            raise
        self._last_answer_s = time.monotonic()
        total_ms = (time.perf_counter() - start_s) * 1e3
        self._metrics.count_prediction(
            prediction, total_ms, is_reference=not (chain.name or options.taxonomy)
        )
        return prediction

    def admit(self, options: RequestOptions) -> None:
        """Refuse a request before its body is read, if it would wait too long.

        Raises:
            OverloadedError: it would; the error says when to try again.
            InvalidOptionError: there is no such model, or it cannot answer like that.
        """
        try:
            chain = self._chain_of(options.model)
            chain.check(options)
            self._admission[chain.name].check()
        except AcousticError as error:
            self._metrics.count_error(error.code)
            raise

    def _chain_of(self, name: str) -> Chain:
        if name == self._chains[""].folder.manifest.name:
            return self._chains[""]
        if name not in self._chains:
            known = ", ".join(
                each.name or each.folder.manifest.name for each in self._chains.values()
            )
            raise InvalidOptionError(f"model is {name[:64]!r}, known are {known}")
        return self._chains[name]

    @contextmanager
    def _windows_in_flight(self, n_bytes: int) -> Iterator[None]:
        """Count the windows of a request while it runs; refuse it if memory might not suffice.

        Queues are counted in requests, but one of a model with long windows holds as many bytes as
        thirty of another.
        """
        limit = self._config.http.max_total_window_bytes
        if self._window_bytes and self._window_bytes + n_bytes > limit:
            raise OverloadedError(
                f"the service is busy: windows of {limit:,} bytes are being evaluated; try again "
                "later",
                retry_after_s=self._config.http.retry_after_s,
            )
        self._window_bytes += n_bytes
        try:
            yield
        finally:
            self._window_bytes -= n_bytes

    async def _classify_with_retry(
        self, chain: Chain, data: bytes, options: RequestOptions
    ) -> Prediction:
        for attempt in range(1, N_ATTEMPTS + 1):
            try:
                return await self._answer(chain, data, options)
            except REPLICA_GONE as error:
                logger.warning("replica died attempt=%d error=%s", attempt, type(error).__name__)
        raise UnavailableError("a stage died while processing this request; try again")

    async def _answer(self, chain: Chain, data: bytes, options: RequestOptions) -> Prediction:
        """One round, and for effort auto further ones while the answer is close."""
        rounds = evaluate_in_rounds()
        number = next(rounds)
        evaluated: list[DeploymentResponse] = []
        outcome: RoundResult | InputError
        while True:
            try:
                outcome = await self._evaluate_round(chain, data, options, number, evaluated)
            except InputError as error:
                outcome = error
            try:
                number = rounds.send(outcome)
            except StopIteration as end:
                prediction: Prediction = end.value
                return prediction

    async def _evaluate_round(
        self,
        chain: Chain,
        data: bytes,
        options: RequestOptions,
        number: int,
        evaluated: list[DeploymentResponse],
    ) -> RoundResult:
        """Evaluate one round and answer by it and all before it.

        Nothing is awaited in between, so features and logits do not travel through the ingress,
        unless the answer is late; see `_last_result`.
        """
        features = chain.preprocess.remote(data, options.effort, number)
        evaluated.append(chain.classify.remote(features))
        answer = chain.postprocess.remote(options, *evaluated)
        try:
            result: RoundResult = await _last_result(features, evaluated[-1], answer)
        except asyncio.CancelledError:
            _cancel(features, evaluated[-1], answer)
            raise
        except (RayError, RayServeException) as error:
            _cancel(features, evaluated[-1], answer)
            raise self._translate(error) from error
        return result

    def _translate(self, error: Exception) -> Exception:
        """AcousticError for an error of a stage or of Serve; a lost replica is left as it is."""
        cause: Exception = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, RayTaskError):
            return self._translate(cause)
        if isinstance(cause.__cause__, Exception) and isinstance(cause.__cause__, REPLICA_GONE):
            return cause.__cause__  # an earlier stage died: Serve wraps that error
        if isinstance(cause, BackPressureError):
            return OverloadedError(
                "the service is busy: its queue is full; try again later",
                retry_after_s=self._config.http.retry_after_s,
            )
        if isinstance(cause, DeploymentUnavailableError):
            return UnavailableError("a stage of the service is not available; try again later")
        if isinstance(cause, (AcousticError, *REPLICA_GONE)):
            return cause
        logger.error("a stage failed: %s", error)
        return ServiceError("a stage of the service failed")

    async def ready(self) -> None:
        """Return if every stage responds, or if an answer was returned just before.

        Raises:
            UnavailableError: a stage does not respond within READY_TIMEOUT_S.
        """
        if time.monotonic() - self._last_answer_s < READY_AFTER_ANSWER_S:
            return
        try:
            await self._facts()
        except BackPressureError:
            return  # a stage with a full queue is alive
        except (TimeoutError, RayError, RayServeException) as error:
            raise UnavailableError("a stage of the service is not ready") from error

    async def stats(self) -> dict[str, Any]:
        """Totals of this ingress replica and facts of one replica per stage (None if busy)."""
        facts: dict[str, dict[str, object]] | None = None
        try:
            facts = await self._facts()
        except (TimeoutError, RayError, RayServeException) as error:
            logger.warning("stage facts not available error=%s", type(error).__name__)
        return {**self._metrics.to_dict(), "replicas": facts, "resources": snapshot()}

    def labels(self, model: str = "") -> list[dict[str, object]]:
        """The genres of a model, in its order.

        Raises:
            InvalidOptionError: there is no such model.
        """
        return [label.to_dict() for label in self._chain_of(model).folder.labels.labels]

    def models(self) -> list[dict[str, Any]]:
        """The models that requests may name; the first answers by default."""
        return [chain.to_dict() for chain in self._chains.values()]

    def config(self) -> dict[str, Any]:
        """The effective settings, and the licences of the models."""
        licences = {
            each["name"]: {k: each[k] for k in ("licence", "non_commercial")}
            for each in self.models()
        }
        return {**self._config.to_public_dict(), "licences": licences}

    async def _facts(self) -> dict[str, dict[str, object]]:
        """Facts of one replica of each stage; those of further models as "classify-NAME"."""
        handles = {
            f"{stage}-{chain.name}" if chain.name else stage: handle
            for chain in self._chains.values()
            for stage, handle in chain.handles.items()
        }
        async with asyncio.timeout(READY_TIMEOUT_S):
            answers = await asyncio.gather(*(h.facts.remote() for h in handles.values()))
        return dict(zip(handles, answers, strict=True))


async def _last_result(*chain: DeploymentResponse) -> Any:
    """Result of the last stage of a chain; once it is late, also the first error of any stage.

    Serve takes the error of a replica that was lost with its node, passed on as an argument, for
    an error of the replica that it is passed to, and tries again without end: the last stage alone
    would never answer.
    """
    *earlier, last = chain
    waiting = asyncio.ensure_future(_result(last))
    try:
        await asyncio.wait([waiting], timeout=LATE_S)
        if not waiting.done():
            for response in earlier:
                await response
        return await waiting
    finally:
        waiting.cancel()


async def _result(response: DeploymentResponse) -> Any:
    return await response


def _cancel(*chain: DeploymentResponse) -> None:
    """Cancel what still runs; one that no replica took raises its error again when cancelled."""
    for response in chain:
        with suppress(RayError, RayServeException):
            response.cancel()
