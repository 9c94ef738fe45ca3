"""Clients that misbehave, each kind in a process of its own; only against this machine.

    python -m benchmarks.attacks headers|stalls|large PORT SECONDS

    headers   4,200 connections send half of their headers, and begin again when they are ended
    stalls    27 uploads of 41 MB stand still before their last byte
    large     100 fast uploads of 40 MB, one after another on 16 connections

The last line of the output is what happened to them, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx

HOST = "127.0.0.1"
MAX_SECONDS = 600.0
N_HEADERS, N_STALLED, STALLED_BYTES = 4_200, 27, 41_300_000
N_LARGE, LARGE_BYTES, LARGE_AT_ONCE = 100, 40_000_000, 16


async def headers(port: int, seconds: float) -> Counter[str]:
    """Connections that never complete their headers; one that is ended begins again."""
    until_s = time.monotonic() + seconds
    seen: Counter[str] = Counter()

    async def one() -> None:
        while time.monotonic() < until_s:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(until_s - time.monotonic() + 1):
                    reader, writer = await asyncio.open_connection(HOST, port)
                    seen["opened"] += 1
                    writer.write(b"POST /v1/classify HTTP/1.1\r\nhost: a\r\nx-a: ")
                    await writer.drain()
                    await reader.read()
                    seen["ended"] += 1
                    writer.close()
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(N_HEADERS)))
    return seen


async def stalls(port: int, seconds: float) -> Counter[str]:
    """Bodies that come at once but for their last byte."""
    head = f"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-length: {STALLED_BYTES}\r\n\r\n"
    body = bytes(STALLED_BYTES - 1)
    seen: Counter[str] = Counter()

    async def one() -> None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection(HOST, port)
                try:
                    writer.write(head.encode() + body)
                    reply = await reader.read()
                    seen[reply[9:12].decode() or "ended"] += 1
                finally:
                    writer.close()
                return
        seen["held"] += 1

    await asyncio.gather(*(one() for _ in range(N_STALLED)))
    return seen


async def large(port: int, seconds: float) -> Counter[str]:
    """Fast uploads of bytes that are not audio."""
    seen: Counter[str] = Counter()
    left = iter(range(N_LARGE))

    async def worker(client: httpx.AsyncClient) -> None:
        for _ in left:
            try:
                reply = await client.post("/v1/classify", content=bytes(LARGE_BYTES))
                seen[str(reply.status_code)] += 1
            except httpx.HTTPError as error:
                seen[type(error).__name__] += 1

    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=seconds) as client:
        await asyncio.gather(*(worker(client) for _ in range(LARGE_AT_ONCE)))
    return seen


ATTACKS: dict[str, Callable[[int, float], Awaitable[Counter[str]]]] = {
    "headers": headers,
    "stalls": stalls,
    "large": large,
}


def main() -> None:
    """Run one attack."""
    kind, port, seconds = sys.argv[1], int(sys.argv[2]), min(float(sys.argv[3]), MAX_SECONDS)
    print(json.dumps(asyncio.run(_run(kind, port, seconds))))


async def _run(kind: str, port: int, seconds: float) -> dict[str, int]:
    return dict(await ATTACKS[kind](port, seconds))


if __name__ == "__main__":
    main()
