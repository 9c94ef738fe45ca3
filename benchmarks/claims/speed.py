"""Tests the guide's speed and memory table again: `python -m benchmarks.claims.speed [--runs N]`.

Its "before" and "after" pipelines, written here from its description with librosa and its geometry
(30 s, 40 mel bands, 224 frames, ViT-B/16 of random weights), and ours, on the same files of 30 s in
one process, interleaved. Its figures are of an NVIDIA T4; on a CPU a pipeline without its GPU parts
(FP16, CUDA graphs) can only show what is left of them.

- before: `librosa.load` of the whole file, one file at a time, float32;
- after: the middle 30 s, threads that decode, one call for all files, spectrograms cached by MD5;
- ours, its network: our front end and engine with its geometry and the same weights;
- ours: as shipped, effort balanced (three windows).

Ratios are of the medians of the runs, with intervals of 90 % over them (bootstrap). Writes a
section of docs/benchmarks.md; the last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import save_checkpoint
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS
from acoustic.content_cache import CacheConfig
from acoustic.example import example_waveform
from acoustic.geometry import MelConfig
from acoustic.labels import Label, LabelSet
from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.request import RequestOptions
from acousticsense.classifier import Classifier
from benchmarks.document import PAGE, markdown_table, write_section
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

COMMAND = "python -m benchmarks.claims.speed"
CLAIMED = {"one file": 3.86, "8 files": 6.18, "repeated file": 44.0, "CPU memory": 1.76}
N_FILES, SECONDS, RATE_HZ = 8, 30.0, 44_100
MEL = MelConfig(
    sample_rate=22_050, n_fft=1024, hop_length=256, n_mels=40, f_min=0.0, f_max=11_025.0,
    n_frames=224,
)  # fmt: skip
SIZE = 224
GENRES = (
    "Blues", "Classical", "Jazz", "Folk", "Pop", "Electronic", "Disco", "Rock", "Hip-Hop", "Rap",
    "Metal", "R&B", "Reggae", "World", "Latin", "Country",
)  # fmt: skip
Image = npt.NDArray[np.float32]


def network() -> VisionTransformer:
    """ViT-B/16 over 224 × 224 with random weights, always the same."""
    torch.manual_seed(0)
    config = replace(VARIANTS["vit_b_16"], input_height=SIZE, input_width=SIZE)
    return VisionTransformer(config).eval()


def make_files(n: int) -> list[bytes]:
    """Different sounds of 30 s as stereo MP3."""
    files = []
    for i in range(n):
        noise = np.random.default_rng(i).normal(0, 0.05, (round(SECONDS * RATE_HZ), 2))
        sound = io.BytesIO()
        sf.write(sound, example_waveform(SECONDS, RATE_HZ)[:, None] + noise, RATE_HZ, format="MP3")
        files.append(sound.getvalue())
    return files


class Guide:
    """The guide's two pipelines.

    Args:
        model: its network.
    """

    def __init__(self, model: VisionTransformer) -> None:
        self._model = model
        self._known: dict[str, Image] = {}

    @staticmethod
    def image(data: bytes, duration_s: float | None = None) -> Image:
        """DB relative to the maximum, scaled to [0, 1], the middle 224 frames, as 224 × 224."""
        samples, _ = librosa.load(io.BytesIO(data), sr=MEL.sample_rate, duration=duration_s)
        power = librosa.feature.melspectrogram(
            y=samples, sr=MEL.sample_rate, n_mels=40, n_fft=1024, hop_length=256
        )
        level = librosa.power_to_db(power, ref=np.max)
        level = (level - level.min()) / (level.max() - level.min() + 1e-8)
        start = max(0, (level.shape[1] - 224) // 2)
        image = torch.from_numpy(np.ascontiguousarray(level[:, start : start + 224]))[None, None]
        resized = torch.nn.functional.interpolate(image, (SIZE, SIZE), mode="bilinear")
        return np.asarray(resized[0].numpy(), np.float32)

    def before(self, files: Sequence[bytes]) -> None:
        """One file after another."""
        for data in files:
            self._evaluate([self.image(data)])

    def after(self, files: Sequence[bytes]) -> None:
        """Decoded by four threads, evaluated in one call; known spectrograms are not made again."""
        with ThreadPoolExecutor(4) as pool:
            self._evaluate(list(pool.map(self._cached, files)))

    def after_anew(self, files: Sequence[bytes]) -> None:
        """The same on files that were not seen before."""
        self._known.clear()
        self.after(files)

    def _cached(self, data: bytes) -> Image:
        key = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if key not in self._known:
            self._known[key] = self.image(data, SECONDS)
        return self._known[key]

    @torch.inference_mode()
    def _evaluate(self, images: Sequence[Image]) -> None:
        self._model(torch.from_numpy(np.stack(images))).softmax(dim=1)


def our_pipeline(folder: Path, cache: bool) -> Pipeline:
    """Our stages over a checkpoint, in float32, so that only the way differs."""
    config = PipelineConfig(
        engine=EngineConfig(accelerator="cpu", precision="fp32", n_threads=torch.get_num_threads()),
        cache=CacheConfig() if cache else None,
    )
    return Pipeline.from_folder(folder, config)


def save_guide_checkpoint(folder: Path) -> None:
    """The guide's network in its geometry, as a checkpoint of ours."""
    save_checkpoint(
        folder,
        name="guide",
        version="0",
        model=network(),
        labels=LabelSet(Label(name=name) for name in GENRES),
        mel=MEL,
        scaling=Scaling(kind="min_max", resize_to=(SIZE, SIZE)),
    )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU ms of a call."""
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    work()
    return (time.perf_counter() - begun_s) * 1e3, (time.process_time() - cpu_s) * 1e3


def measure(runs: int, folder: Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """What is done → way → (wall, CPU) ms of each run; the ways run in turn."""
    files = make_files(N_FILES)
    guide = Guide(network())
    same = our_pipeline(folder, cache=False)
    shipped = Classifier()
    known = our_pipeline(built_in(DEFAULT_CHECKPOINT), cache=True)
    fast = RequestOptions(effort="fast")
    tasks: dict[str, dict[str, Callable[[], object]]] = {
        "one file": {
            "before": lambda: guide.before(files[:1]),
            "after": lambda: guide.after_anew(files[:1]),
            "ours, its network": lambda: same.classify(files[0], fast),
            "ours": lambda: shipped.classify(files[0]),
        },
        "8 files": {
            "before": lambda: guide.before(files),
            "after": lambda: guide.after_anew(files),
            "ours, its network": lambda: [same.classify(data, fast) for data in files],
            "ours": lambda: list(shipped.classify_many(files)),
        },
        "repeated file": {
            "before": lambda: guide.before(files[:1]),
            "after": lambda: guide.after(files[:1]),
            "ours": lambda: known.classify(files[0]),
        },
    }
    guide.after(files[:1])
    found: dict[str, dict[str, list[tuple[float, float]]]] = {
        name: {way: [] for way in ways} for name, ways in tasks.items()
    }
    for run in range(runs + 1):
        for name, ways in tasks.items():
            if name == "repeated file":
                guide.after(files[:1])
            for way, work in ways.items():
                times = timed(work)
                if run:  # the first one warms up
                    found[name][way].append(times)
    shipped.close()
    return found


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of two medians, and its interval of 90 % (bootstrap over the runs)."""
    rng = np.random.default_rng(0)
    draws = [
        np.median(rng.choice(slow, len(slow))) / np.median(rng.choice(fast, len(fast)))
        for _ in range(2000)
    ]
    low, high = np.quantile(draws, (0.05, 0.95))
    return statistics.median(slow) / statistics.median(fast), float(low), float(high)


def verdict(claimed: float, low: float, high: float) -> str:
    """What an interval says of a claimed factor."""
    if high < 1:
        return "refuted: worse"
    if low >= claimed:
        return "reached"
    if high < claimed:
        return "not reached"
    return "inconclusive"


def peak_mb(statement: str) -> float:
    """Peak resident memory, MiB, of a new process that runs a statement."""
    # not getrusage: its peak begins with that of the process that started this one
    code = (
        f"from pathlib import Path\n{statement}\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return round(float(result.stdout.splitlines()[-1]) / 1024, 1)


def measure_memory(folder: Path) -> dict[str, float]:
    """Peak memory of a process that classifies eight files, by way."""
    songs = folder.parent / "songs"
    songs.mkdir()
    for i, data in enumerate(make_files(N_FILES)):
        (songs / f"{i}.mp3").write_bytes(data)
    read = f"files = [p.read_bytes() for p in sorted(Path({str(songs)!r}).iterdir())]"
    guide = f"from benchmarks.claims.speed import Guide, network; {read}; g = Guide(network())"
    ours = f"from acousticsense import Classifier; {read}"
    many = "list(c.classify_many(files, effort={!r}))"
    return {
        "before": peak_mb(f"{guide}; g.before(files)"),
        "after": peak_mb(f"{guide}; g.after(files)"),
        "ours, its network": peak_mb(
            f"{ours}; c = Classifier({str(folder)!r}); {many.format('fast')}"
        ),
        "ours": peak_mb(f"{ours}; c = Classifier(); {many.format('balanced')}"),
    }


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "guide"
        save_guide_checkpoint(folder)
        times = measure(runs, folder)
        memory = measure_memory(folder)
    rows, report = [], []
    for task, ways in times.items():
        slow = [wall for wall, _ in ways["before"]]
        for way, each in ways.items():
            wall = [ms for ms, _ in each]
            cpu_ms = statistics.median(ms for _, ms in each)
            factor, low, high = ratio(slow, wall)
            said = "" if way == "before" else verdict(CLAIMED[task], low, high)
            report.append(
                {"task": task, "way": way, "wall_ms": statistics.median(wall), "cpu_ms": cpu_ms,
                 "factor": factor, "interval": [low, high], "claimed": CLAIMED[task],
                 "verdict": said}
            )  # fmt: skip
            shown = "" if way == "before" else f"{factor:.2f} ({low:.2f}–{high:.2f})"
            rows.append(
                [task, way, f"{statistics.median(wall):.0f}", f"{cpu_ms:.0f}", shown,
                 f"{CLAIMED[task]:g}", said]
            )  # fmt: skip
    for way, mb in memory.items():
        factor = memory["before"] / mb
        said = "" if way == "before" else verdict(CLAIMED["CPU memory"], factor, factor)
        report.append({"task": "CPU memory", "way": way, "mb": mb, "factor": factor,
                       "claimed": CLAIMED["CPU memory"], "verdict": said})  # fmt: skip
        rows.append(["CPU memory, 8 files", way, f"{mb:.0f} MiB", "", f"{factor:.2f}",
                     f"{CLAIMED['CPU memory']:g}", said])  # fmt: skip
    header = ["what", "way", "wall ms", "CPU ms", "factor (90 %)", "claimed", "verdict"]
    manifest = CheckpointFolder.open(built_in(DEFAULT_CHECKPOINT)).manifest
    threads = torch.get_num_threads()
    body = (
        f"{N_FILES} MP3s of {SECONDS:.0f} s, {runs} runs, {threads} threads of PyTorch; ours is "
        f"{manifest.name} {manifest.version} ({manifest.digest}). The claims are of a T4: FP16 and "
        "the memory of a GPU are not measured here.\n\n"
    )
    write_section("The guide's speed table", COMMAND, body + markdown_table(header, rows), PAGE)
    document = {"benchmark": "guide_speed", "runs": runs, "threads": threads, "rows": report}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
