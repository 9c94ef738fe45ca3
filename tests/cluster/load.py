"""Sends classification requests at a steady rate from a host: `python -m tests.cluster.load`.

Every request has a different sound, so that no answer comes from a cache. The URLs are used in
turn. A request that is refused for overload is sent again after the service's `Retry-After`, for
`--retry-s` seconds; nothing else is retried.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.support.sounds import encode

RATE_HZ = 22_050


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--retry-s", type=float, default=0.0)
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--sound-s", type=float, default=2.0)
    asyncio.run(run(parser.parse_args()))


async def run(arguments: argparse.Namespace) -> None:
    n, out = arguments.count, arguments.out
    urls = [f"{url}/v1/classify?effort={arguments.effort}" for url in arguments.urls]
    outcomes: list[dict[str, Any]] = []
    noise = np.random.default_rng(0).normal(0, 0.1, round(arguments.sound_s * RATE_HZ))
    sound = noise.astype(np.float32)
    begun_s = time.monotonic()
    # One connection per request, as from many callers: a broken one affects one request only.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        timeout=arguments.timeout, limits=limits, trust_env=False
    ) as client:
        tasks = []
        for i in range(n):
            delay_s = begun_s + i / arguments.rate - time.monotonic()
            await asyncio.sleep(max(0.0, delay_s))
            body = encode(np.roll(sound, i), RATE_HZ, "wav")
            url = urls[i % len(urls)]
            task = asyncio.create_task(_ask(client, url, body, begun_s, arguments.retry_s))
            task.add_done_callback(lambda done: outcomes.append(done.result()))
            tasks.append(task)
            if i % 10 == 0:
                _write(out, {"n_done": len(outcomes)})
        await asyncio.gather(*tasks)
    latencies_s = sorted(each["took_s"] for each in outcomes)
    _write(
        out,
        {
            "n_done": len(outcomes),
            "lost": [each for each in outcomes if each["outcome"] != "200"],
            "n_refused": sum(each["n_refused"] for each in outcomes),
            "p50_s": latencies_s[len(latencies_s) // 2],
            "max_s": latencies_s[-1],
        },
    )


async def _ask(
    client: httpx.AsyncClient, url: str, body: bytes, begun_s: float, retry_s: float
) -> dict[str, Any]:
    asked_s = time.monotonic()
    n_refused = 0
    while True:
        try:
            reply = await client.post(url, content=body)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
            break
        outcome = str(reply.status_code)
        if outcome != "429" or time.monotonic() - asked_s > retry_s:
            break
        n_refused += 1
        await asyncio.sleep(float(reply.headers["retry-after"]))
    return {
        "at_s": round(asked_s - begun_s, 2),
        "took_s": round(time.monotonic() - asked_s, 3),
        "n_refused": n_refused,
        "outcome": outcome,
        "url": url,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
