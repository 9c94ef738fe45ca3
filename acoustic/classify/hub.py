"""Reads an audio transformer from a folder in the layout of the Hugging Face hub.

AST and MAEST are one architecture (`ASTForAudioClassification`) behind two front ends:

    config.json                 sizes, strides, names of the labels
    preprocessor_config.json    front end: rate, bands, frames, normalisation
    model.safetensors           or pytorch_model.bin, which is loaded as plain tensors

Sources: Gong et al., AST: Audio Spectrogram Transformer (2021); Alonso-Jiménez et al., Efficient
Supervised Training of Audio Transformers for Music Representation Learning (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from acoustic.checkpoint_folder import read_json_object
from acoustic.classify.foreign import State, import_ast, load_state
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VitConfig
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
    return (path / CONFIG).is_file() and "model_type" in read_json_object(path, CONFIG)


def is_image_model(path: Path) -> bool:
    """Whether a hub folder has a plain ViT, which knows neither sound nor front end."""
    return read_json_object(path, CONFIG).get("model_type") == IMAGE


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
            front end is not known here.
    """
    config = read_json_object(path, CONFIG)
    _check_kind(config)
    names = _label_names(config)
    mel, scaling = _front_end(read_json_object(path, PREPROCESSOR), config)
    problem = config.get("problem_type")
    output = PROBLEM_TYPES.get(problem) if isinstance(problem, str) else None
    model = import_ast(_weights(path), _architecture(config, len(names)))
    return HubModel(
        model=model,
        names=names,
        mel=mel,
        scaling=scaling,
        output=output,
    )


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Network:
    """The fields of config.json that are read, with the defaults of transformers' ASTConfig."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    num_mel_bins: int = 128
    max_length: int = 1024
    patch_size: int = 16
    frequency_stride: int = 10
    time_stride: int = 10
    layer_norm_eps: float = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class _Extractor:
    """The fields of preprocessor_config.json that are read; None for the kind's default."""

    sampling_rate: int = 16_000
    n_fft: int = 512
    hop_length: int = 256
    mean: float | None = None
    std: float | None = None
    do_normalize: bool = True
    log_compression: str = "logC"


Fields = TypeVar("Fields", _Network, _Extractor)


def _read_fields(cls: type[Fields], content: dict[str, Any], file: str) -> Fields:
    """The known fields of a JSON object, each of the type of its default or null where it may be.

    Raises:
        CheckpointError: a value of another type, or a number that is not finite.
    """
    found = {}
    for field in fields(cls):
        if field.name not in content:
            continue
        value, default = content[field.name], field.default
        wanted = float if default is None else type(default)
        is_number = wanted is float and isinstance(value, int) and not isinstance(value, bool)
        fits = type(value) is wanted or is_number or (default is None and value is None)
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise CheckpointError(
                f"{file}: {field.name} is {value!r}, a {wanted.__name__} is needed"
            )
        found[field.name] = value
    return cls(**found)


def _network(config: dict[str, Any]) -> _Network:
    patch = config.get("patch_size")
    if isinstance(patch, list):
        if len(set(map(str, patch))) != 1:
            raise CheckpointError(f"patches are {patch}, only square ones can be imported")
        config = {**config, "patch_size": patch[0]}
    return _read_fields(_Network, config, CONFIG)


def _architecture(config: dict[str, Any], n_classes: int) -> VitConfig:
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise CheckpointError(f"the activation is {activation!r}, only gelu can be imported")
    network = _network(config)
    try:
        return VitConfig(
            input_height=network.num_mel_bins,
            input_width=network.max_length,
            patch_size=network.patch_size,
            patch_strides=(network.frequency_stride, network.time_stride),
            width=network.hidden_size,
            depth=network.num_hidden_layers,
            heads=network.num_attention_heads,
            mlp_ratio=network.intermediate_size / network.hidden_size,
            stem="linear",
            pool="cls_distill",
            head_norm=True,
            n_classes=n_classes,
            layer_norm_eps=network.layer_norm_eps,
        )
    except (ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{CONFIG} cannot be used: {error}") from error


def _front_end(preprocessor: dict[str, Any], config: dict[str, Any]) -> tuple[MelConfig, Scaling]:
    kind = str(preprocessor.get("feature_extractor_type"))
    if kind not in _FRONT_ENDS:
        raise CheckpointError(
            f"the front end is {kind!r}, known are {', '.join(sorted(_FRONT_ENDS))}"
        )
    network = _network(config)
    for name in ("num_mel_bins", "max_length"):
        found, wanted = preprocessor.get(name), getattr(network, name)
        if found is not None and found != wanted:
            raise CheckpointError(f"{name} is {found} in {PREPROCESSOR}, {wanted} in {CONFIG}")
    extractor = _read_fields(_Extractor, preprocessor, PREPROCESSOR)
    if extractor.sampling_rate != 16_000:
        raise CheckpointError(
            f"sampling_rate is {extractor.sampling_rate} Hz, only 16000 Hz is known"
        )
    make, (mean, std) = _FRONT_ENDS[kind]
    try:
        mel = make(extractor, network)
        scaling = Scaling(kind="absolute", top_db=mel.top_db)
        if extractor.do_normalize:
            scaling = replace(
                scaling,
                mean=mean if extractor.mean is None else extractor.mean,
                # both divide by twice the deviation
                std=2 * (std if extractor.std is None else extractor.std),
            )
    except ValueError as error:
        raise CheckpointError(f"{PREPROCESSOR} cannot be used: {error}") from error
    return mel, scaling


def _kaldi_fbank(extractor: _Extractor, network: _Network) -> MelConfig:
    """ASTFeatureExtractor of transformers, which has frames of 400 samples every 160."""
    return MelConfig(
        sample_rate=extractor.sampling_rate,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=network.num_mel_bins,
        f_min=20.0,
        f_max=extractor.sampling_rate / 2,
        n_frames=network.max_length,
        bands="kaldi",
        algorithm="kaldi_fbank",
    )


def _log_mel_absolute(extractor: _Extractor, network: _Network) -> MelConfig:
    """MAESTFeatureExtractor, which comes with the published models."""
    if extractor.log_compression != "logC":
        raise ValueError(f"log_compression is {extractor.log_compression!r}, only logC is known")
    return MelConfig(
        sample_rate=extractor.sampling_rate,
        n_fft=extractor.n_fft,
        hop_length=extractor.hop_length,
        n_mels=network.num_mel_bins,
        f_max=extractor.sampling_rate / 2,
        n_frames=network.max_length,
        algorithm="log_mel_absolute",
    )


_FRONT_ENDS: dict[str, tuple[Callable[[_Extractor, _Network], MelConfig], tuple[float, float]]] = {
    "ASTFeatureExtractor": (_kaldi_fbank, (-4.2677393, 4.5689974)),
    "MAESTFeatureExtractor": (_log_mel_absolute, (2.06755686098554, 1.268292820667291)),
}
"""Kind → its geometry, and its mean and deviation where the file leaves them out."""


def _weights(path: Path) -> State:
    shards = sorted(path.glob("model-*-of-*.safetensors"))
    if not shards:
        return load_state(find_weights(path))
    return {name: tensor for shard in shards for name, tensor in load_state(shard).items()}
