"""The library behind BentoML: two workers. `bentoml serve benchmarks.peers.bentoml_app:Service`."""

from __future__ import annotations

import bentoml
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from acoustic.pipeline import Pipeline
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

pipeline = Pipeline.from_folder(built_in(DEFAULT_CHECKPOINT))


async def classify(request: Request) -> JSONResponse:
    """The answer about the body."""
    data = await request.body()
    return JSONResponse((await run_in_threadpool(pipeline.classify, data)).to_dict())


app = Starlette(routes=[Route("/classify", classify, methods=["POST"])])


@bentoml.service(workers=2)
@bentoml.asgi_app(app, path="/v1")
class Service:
    """The application in each worker."""
