"""The library behind LitServe: two workers, batches of up to eight files.

No postponed annotations in here: LitServe makes a route of the annotation of `request`.
"""

import argparse
from typing import Annotated, Any

import litserve
from fastapi import Body

from acoustic.pipeline import Pipeline, evaluate_tracks
from acoustic.request import RequestOptions
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

OPTIONS = RequestOptions()


class Api(litserve.LitAPI):
    """Decodes and classifies whole batches in a worker."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.pipeline = Pipeline.from_folder(built_in(DEFAULT_CHECKPOINT))

    def decode_request(self, request: Annotated[bytes, Body(media_type="audio/mpeg")]) -> bytes:
        """The body."""
        return request

    def predict(self, bodies: list[bytes]) -> list[Any]:
        """Answers about several bodies; their windows share the model's batches."""

        def source(data: bytes) -> Any:
            process = self.pipeline.preprocessor.process
            return lambda number: process(data, OPTIONS.effort, number)

        return evaluate_tracks(
            self.pipeline.classifier.classify,
            self.pipeline.postprocessor,
            [source(data) for data in bodies],
            [OPTIONS] * len(bodies),
        )

    def encode_response(self, output: Any) -> dict[str, object]:
        """The JSON object of an answer."""
        body: dict[str, object] = output.to_dict()
        return body


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    api = Api(max_batch_size=8, batch_timeout=0.005, api_path="/v1/classify")
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=2, healthcheck_path="/readyz"
    )
    server.run(
        host="127.0.0.1",
        port=parser.parse_args().port,
        log_level="warning",
        generate_client_file=False,
    )
