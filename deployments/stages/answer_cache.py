"""Answers about content that was seen before: a repeat costs its digest, and no stage runs.

An answer is kept under everything that it depends on: the bytes, the options but the file's name,
the checkpoint, the engine's settings, and the digest of the settings of stages 1 and 3.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict, replace
from pathlib import Path

from acoustic.classify.engine_config import EngineConfig
from acoustic.content_cache import CacheConfig, FolderCache, MemoryCache
from acoustic.digest import config_digest, content_digest
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from deployments.http.restore import prediction_of_json

ANSWERS_VERSION = 1
"""Counted up when the code gives other answers to the same content and settings."""

LARGE_BYTES = 4 << 20
"""Larger bodies are digested in a thread, so that other requests do not wait for it."""


class AnswerCache:
    """Two levels of answers, memory and a folder that all replicas share.

    Args:
        config: bounds.
        engine: settings of stage 2, which change the last digits of an answer.
    """

    def __init__(self, config: CacheConfig, engine: EngineConfig) -> None:
        self._engine = config_digest(engine)
        self._memory = MemoryCache[bytes](config.answer_bytes)
        self._folder = (
            FolderCache(Path(config.folder) / "answers", config.folder_answer_bytes, ".json")
            if config.folder
            else None
        )
        self.is_on = config.answer_bytes > 0 or self._folder is not None

    async def digest(self, data: bytes) -> str:
        """Digest of a file's bytes; "" where nothing is kept."""
        if not self.is_on:
            return ""
        if len(data) < LARGE_BYTES:
            return content_digest(data)
        return await asyncio.to_thread(content_digest, data)

    async def get(
        self, content: str, options: RequestOptions, model: str, settings: str
    ) -> Prediction | None:
        """The answer with the name of the present file and without timings, or None.

        Args:
            content: digest of the file's bytes.
            options: what is wanted.
            model: digest of the checkpoint.
            settings: config digest that a new answer would have.
        """
        key = self._key(content, options, model, settings)
        entry = self._memory.get(key)
        if entry is None and self._folder is not None:
            entry = await asyncio.to_thread(self._folder.get, key)
            if entry is not None:
                self._memory.put(key, entry, len(entry))
        if entry is None:
            return None
        try:
            answer = prediction_of_json(entry)
        except ValueError:  # of another release, or made up
            self._memory.remove(key)
            if self._folder is not None:
                self._folder.remove(key)
            return None
        return replace(answer, file=options.file, cached=True, timings_ms={})

    async def put(self, options: RequestOptions, answer: Prediction) -> None:
        """Keep an answer whose content's digest is known."""
        if not self.is_on or not answer.content_blake3:
            return
        model, settings = answer.model.digest, answer.config_digest
        key = self._key(answer.content_blake3, options, model, settings)
        entry = replace(answer, file="", timings_ms={}).to_json().encode()
        self._memory.put(key, entry, len(entry))
        if self._folder is not None:
            await asyncio.to_thread(self._folder.put, key, entry)

    def _key(self, content: str, options: RequestOptions, model: str, settings: str) -> str:
        wanted = config_digest(asdict(replace(options, file="")))
        name = f"{ANSWERS_VERSION}:{content}:{wanted}:{model}:{settings}:{self._engine}"
        return hashlib.sha256(name.encode()).hexdigest()
