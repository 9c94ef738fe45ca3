"""The guide's "after" pipeline behind FastAPI; see `benchmarks.claims.speed`."""

from __future__ import annotations

import argparse

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.claims.speed import Guide, network

app = FastAPI()
guide = Guide(network())


@app.post("/v1/classify")
async def classify(request: Request) -> dict[str, str]:
    """Evaluates the middle 30 s; the answer itself is not compared."""
    data = await request.body()
    await run_in_threadpool(guide.after, [data])
    return {"status": "evaluated"}


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """The model is loaded before the server listens."""
    return {"status": "ready"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")
