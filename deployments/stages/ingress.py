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
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.digest import config_digest
from acoustic.errors import (
    AcousticError,
    InputError,
    InvalidOptionError,
    OverloadedError,
    RequestTimeoutError,
    UnavailableError,
)
from acoustic.geometry import MelConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.prediction import Prediction
from acoustic.preprocess.ranged_file import BytesMissingError, RangesUnavailableError
from acoustic.request import RequestOptions
from acoustic.resources import give_memory_back, snapshot
from acoustic.types import TrackFeatures
from deployments.config import API_KEY_VARIABLE, API_KEYS_FILE_VARIABLE, ServiceConfig
from deployments.http.api import create_app
from deployments.http.keys import Keys
from deployments.sources.remote_file import RemoteFile
from deployments.sources.sources import Sources
from deployments.stages.admission import Admission
from deployments.stages.answer_cache import AnswerCache
from deployments.stages.byte_gate import ByteGate
from deployments.stages.calls import (
    Ask,
    File,
    OneProcess,
    ThreeStages,
    answer_of,
    ask_with_retry,
    features_of,
)
from deployments.stages.chain import Chain
from deployments.telemetry.logs import use_serve_logger
from deployments.telemetry.requests import RequestMetrics
from deployments.telemetry.resources import ResourceMetrics

logger = logging.getLogger(__name__)

T = TypeVar("T")


CLIENT_GONE = "client_gone"
"""Counted where a caller went away before the answer."""

READY_TIMEOUT_S = 5.0
SETTINGS_TIMEOUT_S = 1.0
SETTINGS_AGE_S = 1.0
"""Seconds for which the settings of stage 3 are taken to be the ones that were seen last."""

SHARED_BYTES = 256 << 10
"""Larger bodies reach stage 1 through the object store: one copy, instead of one for every hand
that a message goes through."""

TRIMMED_BYTES = 8 << 20
TRIM_DELAY_S = 1.0
"""After bodies from this size on, and that many seconds later, freed memory is given back."""

MAX_SHARED_BYTES = 96 << 20
"""Bytes of bodies that an ingress has in the object store at a time."""

READY_AFTER_ANSWER_S = 10.0
"""Seconds after an answer during which the service counts as ready, whatever its queues."""


class Ingress:
    """Implements `api.Service` on handles to the three stages.

    Args:
        models: name of a model, "" for the one that answers by default → handles to its stages in
            their order, or the one to a deployment that holds all of them.
        config: settings of the service.
    """

    def __init__(
        self, models: dict[str, tuple[DeploymentHandle, ...]], config: ServiceConfig
    ) -> None:
        use_serve_logger()
        self._config = config
        self._chains = {
            name: Chain(
                name=name,
                folder=folder,
                front_end_digest=config_digest(replace(config.preprocess, mel=folder.mel)),
                answers=Postprocessor.from_folder(folder, config.postprocess),
                calls=ThreeStages(*handles) if len(handles) == 3 else OneProcess(*handles),
            )
            for name, handles in models.items()
            for folder in (CheckpointFolder.open(config.model_folder(name)),)
        }
        self._admission = {name: Admission(config.http.max_wait_s) for name in self._chains}
        self._known = AnswerCache(config.cache, config.engine)
        self._settings = dict.fromkeys(self._chains, (-math.inf, ""))
        self._shared = ByteGate(MAX_SHARED_BYTES)
        self._sources = Sources(config.sources, config.http.max_body_bytes)
        self._window_bytes = 0
        self._metrics = RequestMetrics(self._chains[""].answers.calibration)
        self._resources = ResourceMetrics()
        self._last_answer_s = -math.inf

    def __serve_build_asgi_app__(self) -> Starlette:
        """ASGI application of this replica; Serve calls this."""
        file = os.environ.get(API_KEYS_FILE_VARIABLE, "")
        keys = Keys(os.environ.get(API_KEY_VARIABLE, ""), Path(file) if file else None)
        return create_app(self, self._config.http, keys=keys, echo_request_id=False)

    async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
        """Classify one file through the chain.

        Raises:
            AcousticError: the input or the service is at fault; Ray's own errors never get out.
        """
        start_s = time.perf_counter()
        with self._errors_counted():
            chain = self._chain_of(options.model)
            chain.check(options)
            content = await self._known.digest(data)
            prediction = await self._repeated(chain, content, options)
            if prediction is not None:
                hash_ms = (time.perf_counter() - start_s) * 1e3
                prediction = replace(prediction, timings_ms={"hash": hash_ms})
            else:
                prediction = await self._asked(answer_of, chain, File(data, content), options)
                await self._known.put(options, prediction)
        return self._counted(prediction, options, start_s)

    async def classify_uri(self, uri: str, options: RequestOptions) -> Prediction:
        """Classify the file that a URI names; of a long one only the parts that are needed.

        Raises:
            AcousticError: its place is not allowed, or it cannot be read; or as `classify`.
        """
        start_s = time.perf_counter()
        async with AsyncExitStack() as stack:
            with self._errors_counted():
                chain = self._chain_of(options.model)
                chain.check(options)
                file = await stack.enter_async_context(self._sources.opened(uri))
                prediction = None
                if file.in_parts:
                    prediction = await self._of_parts(chain, file, options)
                if prediction is None:
                    data = await file.whole()
            if prediction is None:
                return await self.classify(data, options)
        return self._counted(prediction, options, start_s)

    async def _of_parts(
        self, chain: Chain, file: RemoteFile, options: RequestOptions
    ) -> Prediction | None:
        """The answer by parts of a file, or None if it must be read whole."""
        ask: Ask[Any] = features_of  # what it lacks is found out at the least cost
        await file.fetch([(0, 1)])  # no stage can say anything without the beginning
        try:
            while True:
                data, parts = file.parts()
                try:
                    found = await self._asked(ask, chain, File(data, parts=parts), options)
                except BytesMissingError as error:
                    await file.fetch(error.ranges)
                    continue
                if ask is answer_of:
                    prediction: Prediction = found
                    return prediction
                ask = answer_of
        except InputError:
            if not file.fits_whole:
                raise
        except RangesUnavailableError:
            pass
        return None

    def _counted(
        self, prediction: Prediction, options: RequestOptions, start_s: float
    ) -> Prediction:
        self._last_answer_s = time.monotonic()
        total_ms = (time.perf_counter() - start_s) * 1e3
        is_default = self._chain_of(options.model) is self._chains[""]
        self._metrics.count_prediction(
            prediction, total_ms, is_reference=is_default and not options.taxonomy
        )
        return prediction

    async def log_mel(
        self, data: bytes, options: RequestOptions
    ) -> tuple[TrackFeatures, MelConfig]:
        """What the model sees of one file, and the geometry of its windows.

        Raises:
            AcousticError: the input or the service is at fault; Ray's own errors never get out.
        """
        with self._errors_counted():
            chain = self._chain_of(options.model)
            content = await self._known.digest(data)
            features = await self._asked(features_of, chain, File(data, content), options)
        return features, chain.folder.mel

    def admit(self, options: RequestOptions) -> None:
        """Refuse a request before its body is read, if it would wait too long.

        Raises:
            OverloadedError: it would; the error says when to try again.
            InvalidOptionError: there is no such model, or it cannot answer like that.
        """
        with self._errors_counted():
            chain = self._chain_of(options.model)
            chain.check(options)
            self._admission[chain.name].check()

    @contextmanager
    def _errors_counted(self) -> Iterator[None]:
        """Count what goes wrong by its code."""
        try:
            yield
        except AcousticError as error:
            self._metrics.count_error(error.code)
            raise
        except asyncio.CancelledError:
            self._metrics.count_error(CLIENT_GONE)
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

    async def _asked(self, ask: Ask[T], chain: Chain, file: File, options: RequestOptions) -> T:
        """What the stages say, if the request is admitted and within its time."""
        limit_s = self._config.http.request_timeout_s
        try:
            with (
                self._admission[chain.name].admitted() as is_late,
                self._windows_in_flight(chain.window_bytes(options.effort)),
            ):
                async with asyncio.timeout(limit_s):
                    return await self._sent(ask, chain, file, options, is_late)
        except TimeoutError as error:
            raise RequestTimeoutError(f"no answer within {limit_s:g} s") from error

    async def _sent(
        self,
        ask: Ask[T],
        chain: Chain,
        file: File,
        options: RequestOptions,
        is_late: Callable[[], bool],
    ) -> T:
        """What the stages say; large files take their turns in the object store.

        Its memory never goes back to the system, so what is in it at a time is what it keeps.
        """
        more = (options, self._config.http.retry_after_s, is_late)
        n_bytes = file.n_bytes
        if n_bytes < SHARED_BYTES:
            return await ask_with_retry(ask, chain.calls, file, *more)
        async with self._shared.holding(n_bytes):
            answer = await ask_with_retry(ask, chain.calls, file.shared(), *more)
        if n_bytes >= TRIMMED_BYTES and not self._shared.n_bytes:
            # later: the handler of this request still holds its body
            asyncio.get_running_loop().call_later(TRIM_DELAY_S, give_memory_back)
        return answer

    async def _repeated(
        self, chain: Chain, content: str, options: RequestOptions
    ) -> Prediction | None:
        """The answer about content that was seen before, with the settings in force."""
        if not self._known.is_on:
            return None
        settings = await self._settings_digest(chain)
        if not settings:
            return None
        digest = chain.answers.config_digest_of(chain.front_end_digest, settings, options.taxonomy)
        return await self._known.get(content, options, chain.folder.manifest.digest, digest)

    async def _settings_digest(self, chain: Chain) -> str:
        """Digest of the settings of stage 3, which change without a restart; "" if unknown."""
        seen_s, digest = self._settings[chain.name]
        if time.monotonic() - seen_s < SETTINGS_AGE_S:
            return digest
        try:
            async with asyncio.timeout(SETTINGS_TIMEOUT_S):
                digest = (await chain.calls.last.facts.remote())["settings_digest"]
        except (TimeoutError, RayError, RayServeException):
            digest = ""  # the way through the stages says what is wrong
        self._settings[chain.name] = (time.monotonic(), digest)
        return digest

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

    async def config(self) -> dict[str, Any]:
        """The settings in force, and the licences of the models.

        Those of stage 3 are asked for, because they change without a restart; where it does not
        answer, they are those of the file.
        """
        licences = {
            each["name"]: {k: each[k] for k in ("licence", "non_commercial")}
            for each in self.models()
        }
        config, rejected = self._config, None
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                live, rejected = await self._chains[""].calls.last.settings.remote()
            config = replace(config, postprocess=live)
        except (TimeoutError, RayError, RayServeException) as error:
            logger.warning("stage 3 does not say its settings error=%s", type(error).__name__)
        return {
            **config.to_public_dict(),
            "settings_rejected": rejected,
            "licences": licences,
        }

    async def _facts(self) -> dict[str, dict[str, object]]:
        """Facts of one replica of each stage; those of further models as "classify-NAME"."""
        handles = {
            f"{stage}-{chain.name}" if chain.name else stage: handle
            for chain in self._chains.values()
            for stage, handle in chain.calls.handles.items()
        }
        async with asyncio.timeout(READY_TIMEOUT_S):
            answers = await asyncio.gather(*(h.facts.remote() for h in handles.values()))
        return dict(zip(handles, answers, strict=True))
