"""Small models in the layout of the Hugging Face hub, saved by transformers itself."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

LABELS = Path(__file__).parent.parent / "tests" / "data" / "labels"
MAEST_MEAN, MAEST_STD = 2.06755686098554, 1.268292820667291


def label_list(name: str) -> list[str]:
    """The labels of a published model: audioset_527, discogs_400 or discogs_519."""
    return (LABELS / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def tiny_ast(names: list[str], **sizes: Any) -> ASTForAudioClassification:
    """An AST with random weights, large enough that its answers differ, in evaluation mode."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 128, "initializer_range": 0.2,
        "id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)},
        **sizes,
    }  # fmt: skip
    return ASTForAudioClassification(ASTConfig(**settings)).eval()


def save_ast(folder: Path, model: ASTForAudioClassification, licence: str = "bsd-3-clause") -> Path:
    """Save an AST with its feature extractor and a card."""
    model.save_pretrained(folder)
    _extractor(model.config.num_mel_bins, model.config.max_length).save_pretrained(folder)
    _write_card(folder, licence)
    return folder


def save_maest(folder: Path, model: ASTForAudioClassification) -> Path:
    """Save a MAEST: an AST's weights and the settings of MAEST's own feature extractor."""
    model.save_pretrained(folder)
    settings = {
        "auto_map": {"AutoFeatureExtractor": "feature_extraction_maest.MAESTFeatureExtractor"},
        "feature_extractor_type": "MAESTFeatureExtractor", "do_normalize": True, "feature_size": 1,
        "hop_length": 256, "log_compression": "logC", "max_length": model.config.max_length,
        "mean": MAEST_MEAN, "n_fft": 512, "num_mel_bins": model.config.num_mel_bins,
        "sampling_rate": 16000, "std": MAEST_STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    _write_card(folder, "cc-by-nc-sa-4.0")
    return folder


def ast_input(waveform: npt.NDArray[np.float32], n_mels: int, n_frames: int) -> torch.Tensor:
    """(1, T, M) input of an AST by transformers' feature extractor."""
    extractor = _extractor(n_mels, n_frames)
    found: torch.Tensor = extractor(waveform, sampling_rate=16_000, return_tensors="pt")[
        "input_values"
    ]
    return found


def maest_input(waveform: npt.NDArray[np.float32], n_mels: int, n_frames: int) -> torch.Tensor:
    """(1, T, M) input of a MAEST by its published formula."""
    power = spectrogram(
        waveform,
        window_function(512, "hann"),
        frame_length=512,
        hop_length=256,
        power=2,
        pad_mode="constant",
        mel_filters=_maest_bands(n_mels),
        mel_floor=1e-30,
        min_value=1e-30,
    ).T
    values = np.log10(1 + power * 10_000)[:n_frames]
    padded = np.pad(values, ((0, n_frames - len(values)), (0, 0)))
    return torch.tensor((padded - MAEST_MEAN) / (2 * MAEST_STD), dtype=torch.float32)[None]


@functools.cache
def _maest_bands(n_mels: int) -> npt.NDArray[np.float64]:
    return np.asarray(mel_filter_bank(257, n_mels, 0, 8000, 16_000, "slaney", "slaney"))


@functools.cache
def _extractor(n_mels: int, n_frames: int) -> ASTFeatureExtractor:
    with warnings.catch_warnings():
        # Kaldi's lowest bands lie between two bins
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        return ASTFeatureExtractor(num_mel_bins=n_mels, max_length=n_frames)


def _write_card(folder: Path, licence: str) -> None:
    (folder / "README.md").write_text(f"---\nlicense: {licence}\ntags:\n- audio\n---\n# Model\n")
