"""All three stages in one deployment, for a single machine: a request crosses processes once.

The stages are the same classes that are deployments of their own elsewhere.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.classify.engine_config import EngineConfig
from acoustic.content_cache import CacheConfig
from acoustic.errors import InputError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.rounds import RoundResult, evaluate_in_rounds
from acoustic.prediction import Prediction
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.preprocess.ranged_file import FileParts, PartsError
from acoustic.preprocess.sandbox_child import SandboxConfig
from acoustic.request import Effort, RequestOptions
from acoustic.types import TrackFeatures, TrackLogits
from deployments.stages.autoscaling import CPU_SHARE, CpuShare
from deployments.stages.classify import Classify
from deployments.stages.postprocess import Postprocess
from deployments.stages.preprocess import Preprocess

N_DECODERS = 2
"""Threads that decode, so that one file is decoded while the windows of another are evaluated."""


class Colocated:
    """Deployment that turns audio bytes into a Prediction.

    Args:
        checkpoint: checkpoint folder of the model.
        preprocess: settings of stage 1.
        cache: bounds of its feature cache.
        engine: settings of stage 2.
        postprocess: settings of stage 3, in force unless `user_config` overrides them.
        sandbox: limits of the processes that decode.
    """

    def __init__(
        self,
        checkpoint: Path,
        preprocess: PreprocessConfig,
        cache: CacheConfig,
        engine: EngineConfig,
        postprocess: PostprocessConfig,
        sandbox: SandboxConfig,
    ) -> None:
        self._preprocess = Preprocess(checkpoint, preprocess, cache, sandbox)
        self._classify = Classify(checkpoint, engine)
        self._postprocess = Postprocess(checkpoint, postprocess)
        self._decoders = ThreadPoolExecutor(N_DECODERS, thread_name_prefix="decode")
        self._cpu_share = CpuShare()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """New settings of stage 3; see `Postprocess.reconfigure`."""
        self._postprocess.reconfigure(user_config)

    async def __call__(
        self,
        data: bytes | npt.NDArray[np.uint8],
        options: RequestOptions,
        content_blake3: str = "",
        parts: FileParts | None = None,
    ) -> Prediction | InputError | PartsError:
        """Answer about one file: one round, and for effort auto further ones; or why there is none.

        Args:
            data: content of an audio file, or parts of it; (n,) uint8 where it came through the
                object store.
            options: what is wanted.
            content_blake3: digest of the content, "" if it is not known.
            parts: where the parts lie in the file; None if the content is all of it.

        Raises:
            ClassificationError: the model failed on it.
        """
        content = data if isinstance(data, bytes) else data.tobytes()
        loop = asyncio.get_running_loop()
        rounds = evaluate_in_rounds()
        number = next(rounds)
        evaluated: list[TrackLogits | InputError | PartsError] = []
        outcome: RoundResult | InputError | PartsError
        while True:
            try:
                features = await loop.run_in_executor(
                    self._decoders, self._preprocess,
                    content, options.effort, number, content_blake3, parts,
                )  # fmt: skip
                evaluated.append(await self._classify(features))
                outcome = await self._postprocess(options, *evaluated)
            except InputError as error:  # an option that the model cannot have
                outcome = error
            if isinstance(outcome, PartsError):
                return outcome
            try:
                number = rounds.send(outcome)
            except StopIteration as end:
                prediction: Prediction = end.value
                return prediction
            except InputError as error:
                return error

    async def features(
        self,
        data: bytes | npt.NDArray[np.uint8],
        effort: Effort,
        content_blake3: str = "",
        parts: FileParts | None = None,
    ) -> TrackFeatures | InputError | PartsError:
        """What stage 1 makes of one file, in the first round; see `Preprocess.__call__`."""
        content = data if isinstance(data, bytes) else data.tobytes()
        return await asyncio.get_running_loop().run_in_executor(
            self._decoders, self._preprocess, content, effort, 0, content_blake3, parts
        )

    async def settings(self) -> tuple[PostprocessConfig, str]:
        """See `Postprocess.settings`."""
        return await self._postprocess.settings()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Windows in flight and the CPU share; Serve calls this to autoscale."""
        windows = await self._classify.record_autoscaling_stats()
        return {CPU_SHARE: self._cpu_share.since_last(), **windows}

    async def facts(self) -> dict[str, object]:
        """Facts of all three stages in this process, for /v1/stats and tests."""
        classify, postprocess = await self._classify.facts(), await self._postprocess.facts()
        return {**self._preprocess.facts(), **classify, **postprocess}
