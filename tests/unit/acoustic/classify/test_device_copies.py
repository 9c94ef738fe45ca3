"""Copies to the device; CUDA's streams are fakes that note who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from acoustic.classify.device_copies import DeviceCopies


def test_on_a_cpu_a_batch_is_there_at_once() -> None:
    x = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    copies = DeviceCopies("cpu")
    np.testing.assert_array_equal(copies.finish(copies.start(x)).numpy(), x)


class FakeStream:
    def __init__(self, name: str, done: list[str]) -> None:
        self.name, self._done = name, done

    def wait_stream(self, other: FakeStream) -> None:
        self._done.append(f"{self.name} waits for {other.name}")


def test_on_cuda_the_model_waits_for_the_copy_and_keeps_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    own, models = FakeStream("copies", done), FakeStream("model", done)
    current = [models]

    @contextmanager
    def on(stream: FakeStream) -> Iterator[None]:
        current.append(stream)
        yield
        current.pop()

    def to(batch: torch.Tensor, device: str, non_blocking: bool) -> torch.Tensor:
        done.append(f"copy on {current[-1].name}, {device}, asynchronous={non_blocking}")
        return batch

    monkeypatch.setattr(torch.cuda, "Stream", lambda: own)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[-1])
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda batch: (done.append("pin"), batch)[1])
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda batch, stream: done.append(f"kept for {stream.name}")
    )
    copies = DeviceCopies("cuda")
    copies.finish(copies.start(np.zeros((1, 2, 3), np.uint8)))
    assert done == [
        "pin",
        "copy on copies, cuda, asynchronous=True",
        "model waits for copies",
        "kept for model",
    ]
