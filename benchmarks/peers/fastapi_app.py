"""The library behind FastAPI and uvicorn: one process, a pool of threads."""

from __future__ import annotations

import argparse

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from acoustic.pipeline import Pipeline
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

app = FastAPI()
pipeline = Pipeline.from_folder(built_in(DEFAULT_CHECKPOINT))


@app.post("/v1/classify")
async def classify(request: Request) -> dict[str, object]:
    """The answer about the body."""
    data = await request.body()
    return (await run_in_threadpool(pipeline.classify, data)).to_dict()


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """The model is loaded before the server listens."""
    return {"status": "ready"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")
