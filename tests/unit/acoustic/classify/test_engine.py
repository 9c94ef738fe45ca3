"""The engine: every backend agrees with FP32 eager; logits do not depend on the batch."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify import engine as engine_module
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.engine import (
    MANY_TOKENS,
    Engine,
    cpu_has_bf16,
    padded_sizes,
    plan_execution,
)
from acoustic.classify.engine_config import Backend, EngineConfig
from acoustic.classify.normalise import Scaling
from acoustic.errors import ConfigError
from deployments.built_in import built_in
from tests.support.models import TINY, tiny_model

SHAPE = (128, 144)
BF16_PROBABILITY_TOLERANCE = 0.05
"""bfloat16 has 8 significant bits, and the tiny model's logits are spread 40 times wider."""


def make(**config: object) -> Engine:
    options = {"accelerator": "cpu", "precision": "fp32", "batch_sizes": (1, 2, 4, 8)} | config
    return Engine(tiny_model(), Scaling(), SHAPE, EngineConfig(**options))  # type: ignore[arg-type]


def windows(n: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *SHAPE)).astype(np.uint8)


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return torch.softmax(torch.from_numpy(logits), dim=1).numpy()


@pytest.fixture(scope="module")
def reference() -> Engine:
    return make()


def test_equals_the_plain_model(reference: Engine) -> None:
    x = windows(3)
    with torch.inference_mode():
        expected = tiny_model()(Scaling().apply(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(reference.logits(x), expected, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_regrouping_changes_nothing(precision: str) -> None:
    """A window has the same logits in a batch of any size, at any position.

    Bit-identical with native bfloat16; float32 kernels differ in the last digit between sizes.
    """
    engine = make(precision=precision)
    tolerance = 0.0 if precision == "bf16" and cpu_has_bf16() else 1e-5
    x = windows(13)
    alone = np.concatenate([engine.logits(window[None]) for window in x])
    np.testing.assert_allclose(engine.logits(x), alone, rtol=0, atol=tolerance)
    order = np.random.default_rng(1).permutation(13)
    np.testing.assert_allclose(engine.logits(x[order]), alone[order], rtol=0, atol=tolerance)


@pytest.mark.skipif(not cpu_has_bf16(), reason="no native bfloat16 on this CPU")
def test_a_window_has_the_same_logits_in_every_batch_of_the_default_model() -> None:
    """Products as wide as a real model's, for which the tiny one does not stand."""
    checkpoint = load_checkpoint(CheckpointFolder.open(built_in("models/default")))
    config = EngineConfig(accelerator="cpu", precision="bf16")
    mel = checkpoint.manifest.mel
    shape = (mel.n_mels, mel.n_frames)
    engine = Engine(checkpoint.model, checkpoint.scaling, shape, config)
    x = np.random.default_rng(0).integers(0, 256, (24, *shape), dtype=np.uint8)
    together = engine.logits(x)
    for size in (1, 2, 3, 5, 8, 16):
        parts = [engine.logits(x[start : start + size]) for start in range(0, len(x), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize(
    ("sizes", "padded"), [((1, 2, 8), (8,)), ((1, 2, 4), (4,)), ((1, 2), (1, 2))]
)
def test_small_batches_of_bf16_are_padded_to_one_kernel(
    sizes: tuple[int, ...], padded: tuple[int, ...]
) -> None:
    assert padded_sizes(sizes) == padded


def test_bf16_agrees_with_fp32(reference: Engine) -> None:
    x = windows(32)
    exact, half = reference.logits(x), make(precision="bf16").logits(x)
    assert (exact.argmax(axis=1) == half.argmax(axis=1)).mean() >= 0.9
    difference = np.abs(probabilities(exact) - probabilities(half)).max()
    assert difference < BF16_PROBABILITY_TOLERANCE


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_agrees_with_eager(reference: Engine) -> None:
    x = windows(4)
    compiled = make(backend="compile", batch_sizes=(4,)).logits(x)
    np.testing.assert_allclose(compiled, reference.logits(x), atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fp16_compiled_on_cuda_agrees_with_fp32(reference: Engine) -> None:
    x = windows(32)
    fast = make(accelerator="cuda", precision="auto", backend="auto").logits(x)
    exact = reference.logits(x)
    assert (exact.argmax(axis=1) == fast.argmax(axis=1)).mean() >= 0.95
    assert np.abs(probabilities(exact) - probabilities(fast)).max() < 0.02


@pytest.mark.parametrize(("backend", "expected"), [("eager", [8, 3]), ("compile", [8, 4])])
def test_padding_and_chunks(
    reference: Engine, monkeypatch: pytest.MonkeyPatch, backend: str, expected: list[int]
) -> None:
    """11 windows run as one batch of 8 and one of 3, which only compiled code pads to 4."""
    monkeypatch.setattr(reference, "_is_padded", backend == "compile")
    sizes: list[int] = []
    model = reference._model
    monkeypatch.setattr(reference, "_model", lambda x: (sizes.append(len(x)), model(x))[1])
    assert reference.logits(windows(11)).shape == (11, 16)
    assert sizes == expected


@pytest.mark.parametrize(("backend", "sizes"), [("eager", [1]), ("compile", [1, 2, 4, 8])])
def test_warm_up_runs_every_padded_size_of_compiled_code(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, sizes: list[int]
) -> None:
    seen: list[int] = []
    run = Engine._run
    monkeypatch.setattr(Engine, "_run", lambda self, x: (seen.append(len(x)), run(self, x))[1])
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    make(backend=backend)
    assert seen == sizes


def test_calls_run_beside_each_other_where_the_model_is_eager_on_a_cpu(
    reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "usable_cpus", lambda: 4)
    engine = make(n_threads=2)
    assert engine.max_calls == 2
    both_run = threading.Barrier(2, timeout=10)
    model = engine._model
    monkeypatch.setattr(engine, "_model", lambda x: (both_run.wait(), model(x))[1])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine.logits, (windows(2), windows(3))))
    for logits, x in zip(found, (windows(2), windows(3)), strict=True):
        np.testing.assert_array_equal(logits, reference.logits(x))
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    assert make(backend="compile").max_calls == 1


def test_out_of_memory_halves_the_batch(reference: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    x = windows(8)
    expected = reference.logits(x)
    run = reference._run

    def with_room_for_two(
        windows: npt.NDArray[np.uint8], batch: torch.Tensor | None = None
    ) -> npt.NDArray[np.float32]:
        if len(windows) > 2:
            raise torch.OutOfMemoryError("no room")
        return run(windows, batch)

    monkeypatch.setattr(reference, "_run", with_room_for_two)
    np.testing.assert_array_equal(reference.logits(x), expected)


def test_out_of_memory_for_one_window_is_an_error(
    reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(windows: object, batch: object = None) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(reference, "_run", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        reference.logits(windows(4))


def test_the_next_batch_is_copied_before_the_model_runs_on_the_current_one(
    reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    copies, model = reference._copies, reference._model
    sizes: dict[int, str] = {}

    def start(x: npt.NDArray[np.uint8]) -> torch.Tensor:
        batch = torch.from_numpy(x.copy())
        sizes[id(batch)] = f"{len(x)}"
        done.append(f"start {len(x)}")
        return batch

    def finish(batch: torch.Tensor) -> torch.Tensor:
        done.append(f"finish {sizes[id(batch)]}")
        return batch

    monkeypatch.setattr(copies, "start", start)
    monkeypatch.setattr(copies, "finish", finish)
    monkeypatch.setattr(reference, "_model", lambda x: (done.append(f"run {len(x)}"), model(x))[1])
    reference.logits(windows(19))
    assert done == [
        "start 8", "finish 8", "start 8", "run 8",
        "finish 8", "start 3", "run 8",
        "finish 3", "run 3",
    ]  # fmt: skip


def test_a_copy_that_finds_no_memory_before_its_turn_is_made_in_its_turn(
    reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = windows(11)
    expected = reference.logits(x)
    start, calls = reference._copies.start, []

    def second_fails(batch: npt.NDArray[np.uint8]) -> torch.Tensor:
        calls.append(len(batch))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no room")
        return start(batch)

    monkeypatch.setattr(reference._copies, "start", second_fails)
    np.testing.assert_array_equal(reference.logits(x), expected)
    assert calls == [8, 3, 3]


def test_many_threads_may_ask(reference: Engine) -> None:
    """Each caller gets the logits of its own windows."""
    expected = [reference.logits(windows(2, seed)) for seed in range(8)]
    found: dict[int, npt.NDArray[np.float32]] = {}

    def ask(seed: int) -> None:
        found[seed] = reference.logits(windows(2, seed))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(8):
        np.testing.assert_array_equal(found[seed], expected[seed])


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 64, 144), np.uint8), np.zeros((2, *SHAPE)), np.zeros((0, *SHAPE), np.uint8)],
)
def test_another_shape_is_a_programming_error(
    reference: Engine, bad: npt.NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match="the model takes"):
        reference.logits(bad)


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(engine_module, "cpu_has_bf16", lambda: bf16)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ({"cuda": True, "mps": False, "bf16": True}, ("cuda", "fp16", "compile")),
        ({"cuda": False, "mps": True, "bf16": False}, ("mps", "fp16", "eager")),
        ({"cuda": False, "mps": False, "bf16": True}, ("cpu", "bf16", "eager")),
        ({"cuda": False, "mps": False, "bf16": False}, ("cpu", "fp32", "eager")),
    ],
)
def test_the_table_of_choices(
    monkeypatch: pytest.MonkeyPatch, machine: dict[str, bool], expected: tuple[str, str, str]
) -> None:
    pretend(monkeypatch, **machine)
    plan = plan_execution(EngineConfig())
    assert (plan.device, plan.precision, plan.backend) == expected


def test_a_missing_gpu_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=False, mps=False, bf16=False)
    with pytest.raises(ConfigError, match="'cuda' is not available on this machine"):
        plan_execution(EngineConfig(accelerator="cuda"))


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="slower than fp32"):
        plan_execution(EngineConfig(accelerator="cpu", precision="fp16"))


def test_bf16_detection_is_a_fact() -> None:
    assert isinstance(cpu_has_bf16(), bool)


@pytest.mark.parametrize("bad", [(), (0, 1), (2, 1), (1, 1)])
def test_batch_sizes_must_rise(bad: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="positive and rising"):
        EngineConfig(batch_sizes=bad)


def test_batches_are_bounded_in_bytes() -> None:
    window_bytes = SHAPE[0] * SHAPE[1]
    for limit, largest in ((window_bytes * 9, 8), (window_bytes, 1), (1, 1)):
        config = EngineConfig(accelerator="cpu", precision="fp32", max_batch_bytes=limit)
        engine = Engine(tiny_model(), Scaling(), SHAPE, config)
        assert engine.max_batch == largest
        engine.close()


def test_a_cpu_takes_one_window_at_a_time_of_a_model_with_many_tokens() -> None:
    many = replace(TINY, patch_strides=(6, 6), statistics=0)
    assert many.n_patches >= MANY_TOKENS
    config = EngineConfig(accelerator="cpu", precision="fp32")
    engine = Engine(tiny_model(many), Scaling(), SHAPE, config)
    assert engine.max_batch == 1
    windows = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    together = engine.logits(windows)
    alone = np.concatenate([engine.logits(each[None]) for each in windows])
    np.testing.assert_array_equal(together, alone)
    engine.close()
