"""A client that sends small files at a steady rate, and what it saw."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from benchmarks.overload import mp3

MAX_RATE = 100.0


@dataclass(slots=True)
class Seen:
    """What the honest client saw.

    Attributes:
        statuses: replies by status, or by the kind of error.
        took_s: seconds of every answer.
        at_s: times of the answers.
        pairs: answers by model and settings.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        """Numbers for the table."""
        gaps = [b - a for a, b in itertools.pairwise(sorted(self.at_s))]
        n = sum(self.statuses.values())
        return {
            "sent": n,
            "answered": self.statuses["200"],
            "refused": self.statuses["429"],
            "failed": {k: v for k, v in self.statuses.items() if k not in ("200", "429")},
            "p50_s": round(float(np.quantile(self.took_s, 0.5)), 3) if self.took_s else None,
            "p99_s": round(float(np.quantile(self.took_s, 0.99)), 3) if self.took_s else None,
            "longest_s": round(max(self.took_s, default=0.0), 2),
            "longest_gap_s": round(max(gaps, default=0.0), 2),
            "pairs": len(self.pairs),
        }


class Honest:
    """Small files at a steady rate.

    Args:
        url: address of the service.
        rate: requests a second.
    """

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate = url, min(rate, MAX_RATE)
        self._client = httpx.AsyncClient(base_url=url, timeout=120)
        self._file = mp3(10.0)

    async def during(self, what: Callable[[], Awaitable[None]]) -> Seen:
        """Send until `what` has ended, then wait for all replies."""
        seen = Seen()
        event = asyncio.ensure_future(what())
        tasks = []
        begun_s = time.perf_counter()
        for i in itertools.count():
            if event.done():
                break
            await asyncio.sleep(max(0.0, begun_s + i / self._rate - time.perf_counter()))
            tasks.append(asyncio.ensure_future(self._one(seen)))
        await asyncio.gather(*tasks)
        await event
        return seen

    async def _one(self, seen: Seen) -> None:
        begun_s = time.perf_counter()
        try:
            reply = await self._client.post("/v1/classify", content=self._file + os.urandom(16))
        except httpx.HTTPError as error:
            seen.statuses[type(error).__name__] += 1
            return
        seen.statuses[str(reply.status_code)] += 1
        if reply.status_code == 200:
            now_s = time.perf_counter()
            seen.took_s.append(now_s - begun_s)
            seen.at_s.append(now_s)
            body = reply.json()
            seen.pairs[body["model"]["digest"], body["config_digest"]] += 1

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
