"""Import ViT weights of torchvision, timm or transformers, renamed to this project's names.

    torchvision    conv_proj, encoder.layers.encoder_layer_0.self_attention.in_proj_weight, …
    timm           patch_embed.proj, blocks.0.attn.qkv.weight, …     (our own names)
    transformers   vit.embeddings…, vit.encoder.layer.0.attention.attention.query.weight, … on
                   disk; vit.layers.0.attention.q_proj.weight, … in memory since 5.0

An RGB patch embedding is summed to one channel: the same function of a grey image that was copied
to three channels, at a third of the work. The guide's `best_model.pt` is any of these,
possibly wrapped in a training state.

Shapes: D width, P patches.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VitConfig
from acoustic.errors import CheckpointError

State = dict[str, Tensor]

HEAD_WIDTH = 64
"""Width of one attention head in every published ViT; it cannot be read from the weights."""

# keys under which training states store the weights; name prefixes that wrappers add
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "vit.", "audio_spectrogram_transformer.")

_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)
_TRANSFORMERS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.layernorm\.", "head_norm."),
    (r"^classifier\.(?:dense\.)?", "head."),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)


def load_state(path: Path) -> State:
    """Load the tensors of a .safetensors, .pt, .pth or .bin file; never runs code from a pickle.

    Raises:
        CheckpointError: the file is unreadable, of another type, or a pickle with other objects
            than tensors.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    if path.suffix not in (".pt", ".pth", ".bin"):
        raise CheckpointError(f"{path.name} is not a .safetensors, .pt, .pth or .bin file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as plain tensors (objects are refused): "
            "save only the state dict"
        ) from error
    return _unwrap(content, path.name)


def import_vit(state: State, *, input_shape: tuple[int, int] | None = None) -> VisionTransformer:
    """Build a VisionTransformer with the weights of a torchvision, timm or transformers ViT.

    Args:
        state: tensors by name, as from load_state.
        input_shape: (height, width) of the model's input; None for the square that the position
            embedding implies.

    Returns:
        The model in evaluation mode, with one input channel.

    Raises:
        CheckpointError: the names are not those of a known library, or the shapes do not fit.
    """
    ours, layer_norm_eps = _rename(_strip_prefixes(state))
    ours = _sum_channels(_fuse_qkv(ours))
    try:
        return _filled(_architecture(ours, layer_norm_eps, input_shape), ours)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the weights are not a ViT that can be imported: {error}") from error


def import_ast(state: State, architecture: VitConfig) -> VisionTransformer:
    """Build a VisionTransformer with the weights of transformers' ASTForAudioClassification.

    Args:
        state: tensors by name, as from load_state.
        architecture: what the model's own config states.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: the names or shapes are not those of that architecture.
    """
    ours = _fuse_qkv(_rename(_strip_prefixes(state))[0])
    try:
        return _filled(architecture, ours)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the model's config: {error}") from error


def _filled(architecture: VitConfig, state: State) -> VisionTransformer:
    with torch.device("meta"):  # weights that are replaced at once need not be drawn
        model = VisionTransformer(architecture)
    model.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    return model.eval()


def _unwrap(content: object, name: str) -> State:
    # training states nest the weights, sometimes several levels deep
    while isinstance(content, dict):
        inner = next(
            (content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None
        )
        if inner is None:
            return {k: v for k, v in content.items() if isinstance(v, Tensor)}
        content = inner
    raise CheckpointError(f"{name} does not contain a state dict")


def _strip_prefixes(state: State) -> State:
    for prefix in _PREFIXES:
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _rename(state: State) -> tuple[State, float]:
    """Tensors under our names, and the layer-norm epsilon of the library they come from."""
    if "conv_proj.weight" in state:
        return _substitute(state, _TORCHVISION), 1e-6
    if "embeddings.cls_token" in state:
        return _substitute(state, _TRANSFORMERS), 1e-12
    if "patch_embed.proj.weight" in state:
        return dict(state), 1e-6
    raise CheckpointError("the weights' names are not those of torchvision, timm or transformers")


def _substitute(state: State, rules: tuple[tuple[str, str], ...]) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _fuse_qkv(state: State) -> State:
    """Stack separate query, key and value projections into one `qkv`, in that order."""
    fused = {k: v for k, v in state.items() if not re.search(r"\.attn\.(query|key|value)\.", k)}
    for name in state:
        if match := re.fullmatch(r"(blocks\.\d+\.attn\.)query\.(weight|bias)", name):
            stem, kind = match.groups()
            parts = [state[f"{stem}{part}.{kind}"] for part in ("query", "key", "value")]
            fused[f"{stem}qkv.{kind}"] = torch.cat(parts)
    return fused


def _sum_channels(state: State) -> State:
    # grey image x copied to R, G and B: Σ_c w_c · x = (Σ_c w_c) · x
    key = "patch_embed.proj.weight"
    return {k: v.sum(dim=1, keepdim=True) if k == key else v for k, v in state.items()}


def _architecture(
    state: State, layer_norm_eps: float, input_shape: tuple[int, int] | None
) -> VitConfig:
    width, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    # pos_embed has one position for the class token and side² for the patches of a square
    side = math.isqrt(state["pos_embed"].shape[1] - 1) * patch_size
    height, columns = input_shape or (side, side)
    return VitConfig(
        input_height=height,
        input_width=columns,
        patch_size=patch_size,
        width=width,
        depth=1 + max(int(m[1]) for k in state if (m := re.match(r"blocks\.(\d+)\.", k))),
        heads=max(1, width // HEAD_WIDTH),
        mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        stem="linear",
        pool="cls",
        n_classes=state["head.weight"].shape[0],
        layer_norm_eps=layer_norm_eps,
    )
