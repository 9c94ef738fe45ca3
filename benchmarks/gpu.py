"""What a GPU does with the model: parity, windows a second, memory, starts, and the cores it needs.

    python -m benchmarks.gpu [--device cuda] [--minutes 8] [--out FILE]

For vit_nano and ViT-B/16 (random weights) and every backend that is installed: seconds until the
engine is ready, the largest difference of a probability from float32 on the CPU, windows a second
at every batch size against the ceiling of a large matrix product, and memory. Then the rate at
which one CPU core makes windows, and so how many cores feed the device. Steps that would begin
after the time is over are left out, and said so. With `--device cpu` everything is tiny: that
exercises the script, it measures nothing of use. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import Accelerator, Backend, EngineConfig
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS
from acoustic.errors import ConfigError
from acoustic.example import example_waveform
from acoustic.geometry import MelConfig
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.types import WindowValues

MEL = MelConfig()
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TINY_SIZES = (1, 2)
MATMUL = 8192
REPEATS = 20


def network(variant: str, is_tiny: bool) -> VisionTransformer:
    """A network of random weights, always the same; one block of it where all is tiny."""
    torch.manual_seed(0)
    config = VARIANTS[variant]
    return VisionTransformer(replace(config, depth=1) if is_tiny else config).eval()


def backends(device: str) -> list[Backend]:
    """The backends that can run here."""
    if device == "cpu":
        return ["eager"]
    return ["eager", "compile", *(["tensorrt"] if find_spec("torch_tensorrt") else [])]  # type: ignore[list-item]


def make_windows(n: int) -> WindowValues:
    """Windows of noise, (n, M, T) uint8."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, MEL.n_mels, MEL.n_frames)).astype(np.uint8)


def ceiling_tflops(device: str, size: int) -> float:
    """TFLOP/s of a product of two square matrices in half precision."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(3):
        a @ a
    _synchronise(device)
    begun_s = time.perf_counter()
    for _ in range(REPEATS):
        a @ a
    _synchronise(device)
    return 2 * size**3 * REPEATS / (time.perf_counter() - begun_s) / 1e12


def flops_per_window(variant: str, is_tiny: bool) -> float:
    """Floating-point operations of one window."""
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.rand(1, 1, MEL.n_mels, MEL.n_frames)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(variant, is_tiny).outputs(x)
    return float(counter.get_total_flops())


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def measure_backend(
    variant: str, device: Accelerator, backend: Backend, sizes: tuple[int, ...]
) -> dict[str, Any]:
    """One model through one backend."""
    is_tiny = device == "cpu"
    exact = Engine(network(variant, is_tiny), Scaling(), (MEL.n_mels, MEL.n_frames),
                   EngineConfig(accelerator="cpu", precision="fp32"))  # fmt: skip
    config = EngineConfig(
        accelerator=device, backend=backend, batch_sizes=sizes, max_batch_bytes=1 << 30
    )
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun_s = time.perf_counter()
    engine = Engine(network(variant, is_tiny), Scaling(), (MEL.n_mels, MEL.n_frames), config)
    ready_s = time.perf_counter() - begun_s
    check = make_windows(min(16, sizes[-1]))
    expected, found = probabilities(exact.logits(check)), probabilities(engine.logits(check))
    rates = {}
    for size in sizes:
        windows = make_windows(size)
        times = []
        for _ in range(REPEATS // 4 if is_tiny else REPEATS):
            begun_s = time.perf_counter()
            engine.outputs(windows)  # with the copies to the device and back
            times.append(time.perf_counter() - begun_s)
        rates[size] = round(size / statistics.median(times[1:]), 1)
    for each in (engine, exact):
        each.close()
    return {
        "precision": engine.plan.precision,
        "ready_s": round(ready_s, 1),
        "max_difference": round(float(np.abs(found - expected).max()), 5),
        "windows_per_s": rates,
        "peak_mb": round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None,
    }


def windows_per_core_s() -> float:
    """Windows that one core makes in a second, of three-minute MP3s at effort balanced."""
    file = io.BytesIO()
    sf.write(file, example_waveform(180.0, 44_100), 44_100, format="MP3")
    preprocessor = Preprocessor(PreprocessConfig())
    preprocessor.process(file.getvalue(), "balanced")
    begun_s, n = time.process_time(), 0
    for _ in range(8):
        n += preprocessor.process(file.getvalue(), "balanced").n_windows
    return n / (time.process_time() - begun_s)


def main() -> None:
    """Measure what fits into the time, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device: Accelerator = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device: --device cpu only exercises the script")
    deadline_s = time.monotonic() + arguments.minutes * 60
    is_tiny = device == "cpu"
    sizes = TINY_SIZES if is_tiny else SIZES
    report: dict[str, Any] = {
        "benchmark": "gpu",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "ceiling_tflops": round(ceiling_tflops(device, 256 if is_tiny else MATMUL), 3),
        "windows_per_core_s": round(windows_per_core_s(), 1),
        "results": {},
        "left_out": [],
    }
    for variant in ("vit_nano", "vit_b_16"):
        work = flops_per_window(variant, is_tiny)
        for backend in backends(device):
            name = f"{variant} {backend}"
            if time.monotonic() > deadline_s:
                report["left_out"].append(name)
                continue
            try:
                row = measure_backend(variant, device, backend, sizes)
            except ConfigError as error:
                report["results"][name] = {"error": error.message}
                continue
            best = max(row["windows_per_s"].values())
            row["share_of_ceiling"] = round(best * work / 1e12 / report["ceiling_tflops"], 3)
            row["cores_to_feed"] = round(best / report["windows_per_core_s"], 1)
            report["results"][name] = row
            print(name, row, file=sys.stderr, flush=True)
            if arguments.out:  # what is done is kept if the time ends
                arguments.out.write_text(json.dumps(report))
    print(json.dumps(report))


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
