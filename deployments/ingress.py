"""The way in: the Starlette app in a replica, and the chain of the three stages behind it.

Pure Python on purpose: no native decoder runs in here, because the death of an ingress loses its
requests, while the death of a deeper replica is answered by one retry.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
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

from acoustic.errors import (
    AcousticError,
    InputError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
    UnavailableError,
)
from acoustic.manifest import load_manifest
from acoustic.postprocess.calibration import load_calibration
from acoustic.postprocess.postprocessor import check_coverage, check_top_k
from acoustic.prediction import Prediction
from deployments.api import create_app
from deployments.config import API_KEY_VARIABLE, ServiceConfig
from deployments.logs import join_serve_log
from deployments.metrics import RequestMetrics
from deployments.options import Options
from deployments.resource_metrics import ResourceMetrics

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 5.0
N_ATTEMPTS = 2
"""A request is tried once more when a replica died under it."""

READY_AFTER_ANSWER_S = 10.0
"""A service that has just answered is ready, however long its queues are."""

REPLICA_GONE = (RayActorError, ObjectLostError, ReplicaUnavailableError)


class Ingress:
    """Implements `api.Service` on handles to the three stages.

    Args:
        preprocess: handle. classify: handle. postprocess: handle.
        config: settings of the service.
    """

    def __init__(
        self,
        preprocess: DeploymentHandle,
        classify: DeploymentHandle,
        postprocess: DeploymentHandle,
        config: ServiceConfig,
    ) -> None:
        join_serve_log()
        self._preprocess = preprocess
        self._classify = classify
        self._postprocess = postprocess
        self._config = config
        manifest = load_manifest(config.checkpoint_folder)
        self._labels = manifest.labels
        self._metrics = RequestMetrics(load_calibration(config.checkpoint_folder, manifest.digest))
        self._resources = ResourceMetrics()
        self._last_answer_s = -math.inf

    def __serve_build_asgi_app__(self) -> Starlette:
        """Called by Serve in the replica."""
        api_key = os.environ.get(API_KEY_VARIABLE, "")
        return create_app(self, self._config.http, api_key=api_key, echo_request_id=False)

    async def classify(self, data: bytes, options: Options) -> Prediction:
        """Classify one file through the chain.

        Raises:
            AcousticError: the input's or the service's fault, never a Ray class.
        """
        start_s = time.perf_counter()
        try:
            check_top_k(options.top_k, len(self._labels))
            if options.coverage is not None:
                check_coverage(options.coverage)
            async with asyncio.timeout(self._config.http.request_timeout_s):
                prediction = await self._classify_with_retry(data, options)
        except TimeoutError as error:
            self._metrics.count_error(RequestTimeoutError.code)
            limit_s = self._config.http.request_timeout_s
            raise RequestTimeoutError(f"no answer within {limit_s:g} s") from error
        except AcousticError as error:
            self._metrics.count_error(error.code)
            raise
        self._last_answer_s = time.monotonic()
        self._metrics.count_prediction(prediction, (time.perf_counter() - start_s) * 1e3)
        return prediction

    async def _classify_with_retry(self, data: bytes, options: Options) -> Prediction:
        for attempt in range(1, N_ATTEMPTS + 1):
            try:
                return await self._chain(data, options)
            except REPLICA_GONE as error:
                logger.warning("replica died attempt=%d error=%s", attempt, type(error).__name__)
        raise UnavailableError("a part of the service died while it worked on this request")

    async def _chain(self, data: bytes, options: Options) -> Prediction:
        """One round, and for effort auto further ones while the answer is close."""
        rounds: list[DeploymentResponse] = []
        prediction = await self._listen(data, options, rounds)
        while prediction.listen_on:
            try:
                prediction = await self._listen(data, options, rounds)
            except InputError:  # the rest of the track is silent, or damaged: answer by the first
                return prediction
        return prediction

    async def _listen(
        self, data: bytes, options: Options, rounds: list[DeploymentResponse]
    ) -> Prediction:
        """Add a round and answer by all of them.

        Nothing is awaited in between: features and logits never travel through here.
        """
        features = self._preprocess.remote(data, options.effort, len(rounds))
        rounds.append(self._classify.remote(features))
        try:
            prediction: Prediction = await self._postprocess.remote(options, *rounds)
        except asyncio.CancelledError:
            features.cancel()
            rounds[-1].cancel()
            raise
        except (RayError, RayServeException) as error:
            raise self._translate(error) from error
        return prediction

    def _translate(self, error: Exception) -> Exception:
        """Our own class for what a stage, or Serve itself, raised."""
        cause: Exception = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, RayTaskError):
            return self._translate(cause)
        if isinstance(cause.__cause__, Exception) and isinstance(cause.__cause__, REPLICA_GONE):
            return cause.__cause__  # an upstream stage died: Serve wraps that in a plain class
        if isinstance(cause, BackPressureError):
            return OverloadedError(
                "the service is busy: its queue is full",
                retry_after_s=self._config.http.retry_after_s,
            )
        if isinstance(cause, DeploymentUnavailableError):
            return UnavailableError("a part of the service is not available")
        if isinstance(cause, (AcousticError, *REPLICA_GONE)):
            return cause
        logger.error("a stage failed: %s", error)
        return ServiceError("a stage of the service failed")

    async def ready(self) -> None:
        """Ask every stage for a sign of life.

        Raises:
            UnavailableError: one of them does not answer.
        """
        if time.monotonic() - self._last_answer_s < READY_AFTER_ANSWER_S:
            return
        try:
            await self._facts()
        except BackPressureError:
            return  # a full queue is a sign of life
        except (TimeoutError, RayError, RayServeException) as error:
            raise UnavailableError("a part of the service is not ready") from error

    async def stats(self) -> dict[str, Any]:
        """Totals of this ingress replica, and facts of one replica per stage (None if busy)."""
        facts: dict[str, dict[str, object]] | None = None
        try:
            facts = await self._facts()
        except (TimeoutError, RayError, RayServeException) as error:
            logger.warning("no facts of the stages error=%s", type(error).__name__)
        return {**self._metrics.to_dict(), "replicas": facts}

    def labels(self) -> list[dict[str, object]]:
        """The genres in the model's order."""
        return [label.to_dict() for label in self._labels.labels]

    def config(self) -> dict[str, Any]:
        """The effective settings."""
        return self._config.to_public_dict()

    async def _facts(self) -> dict[str, dict[str, object]]:
        handles = {
            "preprocess": self._preprocess,
            "classify": self._classify,
            "postprocess": self._postprocess,
        }
        async with asyncio.timeout(READY_TIMEOUT_S):
            answers = await asyncio.gather(*(h.facts.remote() for h in handles.values()))
        return dict(zip(handles, answers, strict=True))
