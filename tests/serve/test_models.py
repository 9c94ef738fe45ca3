"""Two models in one service: the built-in kind, and a published one with windows of 256 KiB."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet
import pytest
import yaml
from ray import serve

from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.request import RequestOptions
from benchmarks.hub_models import label_list, save_ast, tiny_ast
from deployments.app import AppArgs, build
from deployments.batch.job import run_job
from deployments.batch.job_options import JobOptions
from deployments.built_in import TAXONOMIES, built_in
from deployments.importing import import_checkpoint
from deployments.taxonomies import load_taxonomies
from tests.support.sounds import encode, noise, sweep

SOUNDS = [encode(noise(20.0, seed=seed) + sweep(20.0) * seed, 22_050, "flac") for seed in range(4)]
EXPECTED_DIFFERENCES = {"timings_ms", "cached"}
WINDOW_BYTES = 128 * 1024 * 2


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ast")
    sizes = {"frequency_stride": 16, "time_stride": 16}  # eight times fewer tokens than stride 10
    save_ast(folder / "hub", tiny_ast(label_list("audioset_527"), **sizes))
    import_checkpoint(str(folder / "hub"), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def client(
    cluster: int, tiny_checkpoint: Path, ast: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    settings = tmp_path_factory.mktemp("settings") / "settings.yaml"
    content = {"checkpoint": str(tiny_checkpoint), "models": {"ast": str(ast)}}
    settings.write_text(yaml.safe_dump(content))
    application = build(AppArgs(config=str(settings), accelerator="cpu", classify_cpus=0.5))
    serve.run(application, name="models", route_prefix="/")
    with httpx.Client(base_url=f"http://127.0.0.1:{cluster}", timeout=120) as found:
        assert found.get("/readyz").status_code == 200
        yield found
    serve.delete("models")


def classify(client: httpx.Client, data: bytes, **params: str) -> dict[str, Any]:
    response = client.post("/v1/classify", content=data, params=params)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return {key: value for key, value in body.items() if key not in EXPECTED_DIFFERENCES}


def test_each_model_answers_as_the_library_does(
    client: httpx.Client, tiny_checkpoint: Path, ast: Path
) -> None:
    for name, folder in (("", tiny_checkpoint), ("ast", ast)):
        pipeline = Pipeline.from_folder(folder, PipelineConfig(with_digest=True))
        for effort in ("fast", "thorough", "auto"):
            expected = pipeline.classify(SOUNDS[1], RequestOptions(effort=effort)).to_dict()
            wanted = {k: v for k, v in expected.items() if k not in EXPECTED_DIFFERENCES}
            params = {"effort": effort, "model": name}
            found = classify(client, SOUNDS[1], **params)
            assert {k: v for k, v in found.items() if k != "config_digest"} == {
                k: v for k, v in wanted.items() if k != "config_digest"
            }


def test_the_models_are_listed(client: httpx.Client) -> None:
    tiny, ast = client.get("/v1/models").json()["models"]
    assert (tiny["name"], tiny["is_default"], tiny["n_styles"]) == ("tiny", True, 0)
    assert (ast["name"], ast["n_styles"], ast["window_bytes"]) == ("ast", 527, WINDOW_BYTES)
    assert (ast["licence"], ast["non_commercial"]) == ("bsd-3-clause", False)
    assert client.get("/v1/config").json()["licences"]["ast"]["licence"] == "bsd-3-clause"
    response = client.post("/v1/classify", content=SOUNDS[0], params={"model": "maest"})
    assert response.status_code == 422
    assert "known are tiny, ast" in response.json()["error"]["message"]
    replicas = client.get("/v1/stats").json()["replicas"]
    assert {"classify", "classify-ast"} <= set(replicas)


def test_a_hundred_requests_with_long_windows(client: httpx.Client) -> None:
    """Sixteen at a time, three windows of 256 KiB each: all are answered, memory stays bounded."""
    classify(client, SOUNDS[0], model="ast")
    replicas = client.get("/v1/stats").json()["replicas"]
    processes = [psutil.Process(replicas[f"{stage}-ast"]["pid"]) for stage in STAGES]
    before = sum(process.memory_info().rss for process in processes)

    def one(i: int) -> str:
        return str(classify(client, SOUNDS[i % len(SOUNDS)], model="ast")["top_genre"])

    with ThreadPoolExecutor(16) as pool:
        genres = list(pool.map(one, range(100)))
    for i in range(len(SOUNDS)):
        assert len(set(genres[i :: len(SOUNDS)])) == 1
    grown = sum(process.memory_info().rss for process in processes) - before
    # sixteen tracks in each stage, and again as much for the model's own work
    assert grown < 2 * len(STAGES) * 16 * 3 * WINDOW_BYTES + ALLOWANCE_BYTES, grown


STAGES = ("preprocess", "classify", "postprocess")
ALLOWANCE_BYTES = 128 << 20
"""What an allocator keeps of decoded audio."""


def test_taxonomies_and_styles_come_through(client: httpx.Client) -> None:
    found = classify(client, SOUNDS[2], model="ast", taxonomy="families")
    assert found["model"]["calibrated"] is False
    assert {"NOT_CALIBRATED"} <= {reason["code"] for reason in found["reasons"]}
    assert 1 <= len(found["styles"]) <= 10
    scores = [style["score"] for style in found["styles"]]
    assert scores == sorted(scores, reverse=True)
    assert np.all(np.array(scores) >= 0.1)


def test_a_batch_job_gives_the_same_rows(cluster: int, ast: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, sound in enumerate(SOUNDS[:2]):
        (tmp_path / "in" / f"{i}.flac").write_bytes(sound)
    options = JobOptions(
        sources=(str(tmp_path / "in"),), out=str(tmp_path / "out"), model=ast, chunk_files=4,
        preprocess_actors=1, classify_actors=1, progress="quiet", taxonomy="gtzan",
        request=RequestOptions(taxonomy="gtzan"),
    )  # fmt: skip
    assert run_job(options) == 0
    parts = [pyarrow.parquet.read_table(path) for path in (tmp_path / "out").rglob("part-*")]
    rows = {Path(row["uri"]).name: row for part in parts for row in part.to_pylist()}
    config = PostprocessConfig(taxonomies=load_taxonomies(built_in(TAXONOMIES)))
    pipeline = Pipeline.from_folder(ast, PipelineConfig(postprocess=config))
    for i, sound in enumerate(SOUNDS[:2]):
        answer = pipeline.classify(sound, RequestOptions(taxonomy="gtzan")).to_dict()
        for name in ("top_genre", "predictions", "styles", "uncertainty"):
            assert rows[f"{i}.flac"][name] == answer[name]
