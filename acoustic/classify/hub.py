"""Reads an audio transformer from a folder in the layout of the Hugging Face hub.

AST and MAEST are one architecture (`ASTForAudioClassification`) behind two front ends:

    config.json                 sizes, strides, names of the labels
    preprocessor_config.json    front end: rate, bands, frames, normalisation
    model.safetensors           or pytorch_model.bin, which is loaded as plain tensors

Sources: Gong et al., AST: Audio Spectrogram Transformer (2021); Alonso-Jiménez et al., Efficient
Supervised Training of Audio Transformers for Music Representation Learning (2023).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic.classify.foreign import State, import_ast, load_state
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer, VitConfig
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.styles import Output

AST, IMAGE = "audio-spectrogram-transformer", "vit"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

OTHER_MODELS = {
    "clap": "CLAP, a Swin transformer that compares sound with text",
    "clap_audio_model": "CLAP, a Swin transformer that compares sound with text",
    "mert_model": "MERT, a transformer over samples without labels",
    "musicfm": "MusicFM, a conformer over samples without labels",
    "hubert": "HuBERT, a transformer over samples",
    "wav2vec2": "wav2vec 2.0, a transformer over samples",
    "wavlm": "WavLM, a transformer over samples",
    "whisper": "Whisper, an encoder and decoder of speech",
    "data2vec-audio": "data2vec, a transformer over samples",
    "unispeech-sat": "UniSpeech, a transformer over samples",
}

PROBLEM_TYPES: dict[str, Output] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HubModel:
    """A model of a hub folder.

    Attributes:
        model: the network in evaluation mode, float32.
        names: its L labels, in the order of its head.
        mel: geometry of its front end.
        scaling: normalisation of its input.
        output: what its config states about its head; None if nothing.
    """

    model: VisionTransformer
    names: tuple[str, ...]
    mel: MelConfig
    scaling: Scaling
    output: Output | None


def is_hub_folder(path: Path) -> bool:
    """Whether a folder has the config.json of a transformers model."""
    config = path / CONFIG
    return config.is_file() and "model_type" in _read_json(config)


def is_image_model(path: Path) -> bool:
    """Whether a hub folder has a plain ViT, which knows neither sound nor front end."""
    return _read_json(path / CONFIG).get("model_type") == IMAGE


def find_weights(path: Path) -> Path:
    """The file of weights in a hub folder.

    Raises:
        CheckpointError: there is none.
    """
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path.name!r} has neither {' nor '.join(WEIGHTS)}")


def read_hub_folder(path: Path) -> HubModel:
    """Read model, labels and front end of a folder.

    Args:
        path: the folder.

    Raises:
        CheckpointError: a file is missing or cannot be read, the model is of another kind, or its
            front end is none that exists here.
    """
    config = _read_json(path / CONFIG)
    _check_kind(config)
    names = _label_names(config)
    mel, scaling = _front_end(_read_json(path / PREPROCESSOR), config)
    problem = config.get("problem_type")
    model = import_ast(_weights(path), _architecture(config, len(names)))
    return HubModel(
        model=model,
        names=names,
        mel=mel,
        scaling=scaling,
        output=None if problem is None else PROBLEM_TYPES.get(problem),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent.name!r} has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} of {path.parent.name!r} cannot be read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} of {path.parent.name!r} is not a JSON object")
    return content


def _check_kind(config: dict[str, Any]) -> None:
    kind = str(config.get("model_type", "")).lower()
    if kind == AST:
        return
    what = OTHER_MODELS.get(kind, f"a model of type {kind!r}")
    raise CheckpointError(
        f"this is {what}: only transformers over spectrograms ({AST}: AST, MAEST) can be imported"
    )


def _label_names(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict) or len(names) < 2:
        raise CheckpointError(f"{CONFIG} names no labels (id2label): the model has no classifier")
    try:
        return tuple(str(names[str(i)]) for i in range(len(names)))
    except KeyError as error:
        raise CheckpointError(f"{CONFIG} has no label number {error} in id2label") from error


def _architecture(config: dict[str, Any], n_classes: int) -> VitConfig:
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise CheckpointError(f"the activation is {activation!r}, only gelu can be imported")
    # what a config leaves out is the default of transformers' ASTConfig
    patch, width = config.get("patch_size", 16), config.get("hidden_size", 768)
    if not isinstance(patch, int):
        if len(set(patch)) != 1:
            raise CheckpointError(f"patches are {patch}, only square ones can be imported")
        patch = patch[0]
    try:
        return VitConfig(
            input_height=config.get("num_mel_bins", 128),
            input_width=config.get("max_length", 1024),
            patch_size=patch,
            patch_strides=(config.get("frequency_stride", 10), config.get("time_stride", 10)),
            width=width,
            depth=config.get("num_hidden_layers", 12),
            heads=config.get("num_attention_heads", 12),
            mlp_ratio=config.get("intermediate_size", 3072) / width,
            stem="linear",
            pool="cls_distill",
            head_norm=True,
            n_classes=n_classes,
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{CONFIG} cannot be used: {error}") from error


def _front_end(preprocessor: dict[str, Any], config: dict[str, Any]) -> tuple[MelConfig, Scaling]:
    kind = preprocessor.get("feature_extractor_type")
    if kind not in _FRONT_ENDS:
        raise CheckpointError(
            f"the front end is {kind!r}, known are {', '.join(sorted(_FRONT_ENDS))}"
        )
    for name, default in (("num_mel_bins", 128), ("max_length", 1024)):
        found, wanted = preprocessor.get(name), config.get(name, default)
        if found is not None and found != wanted:
            raise CheckpointError(f"{name} is {found} in {PREPROCESSOR}, {wanted} in {CONFIG}")
    try:
        mel = _FRONT_ENDS[kind](preprocessor, config)
        mean, std = _normalisation(kind, preprocessor)
        scaling = Scaling(kind="absolute", top_db=mel.top_db, mean=mean, std=std)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{PREPROCESSOR} cannot be used: {error}") from error
    return mel, scaling


def _kaldi_fbank(preprocessor: dict[str, Any], config: dict[str, Any]) -> MelConfig:
    """ASTFeatureExtractor of transformers, which has frames of 400 samples every 160."""
    rate = _rate(preprocessor)
    return MelConfig(
        sample_rate=rate,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=config.get("num_mel_bins", 128),
        f_min=20.0,
        f_max=rate / 2,
        n_frames=config.get("max_length", 1024),
        bands="kaldi",
        algorithm="kaldi_fbank",
    )


def _log_mel_absolute(preprocessor: dict[str, Any], config: dict[str, Any]) -> MelConfig:
    """MAESTFeatureExtractor, which comes with the published models."""
    compression = preprocessor.get("log_compression", "logC")
    if compression != "logC":
        raise ValueError(f"log_compression is {compression!r}, only logC is known")
    rate = _rate(preprocessor)
    return MelConfig(
        sample_rate=rate,
        n_fft=preprocessor.get("n_fft", 512),
        hop_length=preprocessor.get("hop_length", 256),
        n_mels=config.get("num_mel_bins", 96),
        f_max=rate / 2,
        n_frames=config.get("max_length", 1876),
        algorithm="log_mel_absolute",
    )


_FRONT_ENDS: dict[str, Callable[[dict[str, Any], dict[str, Any]], MelConfig]] = {
    "ASTFeatureExtractor": _kaldi_fbank,
    "MAESTFeatureExtractor": _log_mel_absolute,
}

# mean and deviation where preprocessor_config.json leaves them out
_STATISTICS = {
    "ASTFeatureExtractor": (-4.2677393, 4.5689974),
    "MAESTFeatureExtractor": (2.06755686098554, 1.268292820667291),
}


def _rate(preprocessor: dict[str, Any]) -> int:
    rate = preprocessor.get("sampling_rate", 16_000)
    if rate != 16_000:
        raise ValueError(f"sampling_rate is {rate} Hz, only 16000 Hz is known")
    return int(rate)


def _normalisation(kind: str, preprocessor: dict[str, Any]) -> tuple[float, float]:
    """What the input is shifted and divided by."""
    if not preprocessor.get("do_normalize", True):
        return 0.0, 1.0
    mean, std = _STATISTICS[kind]
    # both divide by twice the deviation
    return preprocessor.get("mean", mean), 2 * preprocessor.get("std", std)


def _weights(path: Path) -> State:
    shards = sorted(path.glob("model-*-of-*.safetensors"))
    if not shards:
        return load_state(find_weights(path))
    return {name: tensor for shard in shards for name, tensor in load_state(shard).items()}
