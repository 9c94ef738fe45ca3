"""Weights imported from other libraries give the same logits as in those libraries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.foreign import import_vit, load_state
from acoustic.errors import CheckpointError
from deployments.importing import ImportOptions, import_checkpoint
from tests.support.paths import ROOT

TOLERANCE = 2e-5
"""Largest logit difference between two float32 implementations of the same function."""

State = dict[str, Tensor]

if TYPE_CHECKING:
    from transformers import ViTForImageClassification


def reference(*, n_classes: int = 16, full_size: bool = False) -> ViTForImageClassification:
    """ViT-B/16 geometry with random weights; width 128 unless full_size."""
    from transformers import ViTConfig, ViTForImageClassification  # slow to import

    torch.manual_seed(3)
    size = (
        {}
        if full_size
        else {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}
        | {"intermediate_size": 512}
    )
    model = ViTForImageClassification(ViTConfig(num_labels=n_classes, image_size=224, **size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


def grey_images(n: int = 2) -> tuple[Tensor, Tensor]:
    """Images with one channel, and the same repeated three times for an RGB model."""
    grey = torch.rand(n, 1, 224, 224, generator=torch.Generator().manual_seed(4))
    return grey, grey.expand(-1, 3, -1, -1)


def expected_logits(model: ViTForImageClassification, rgb: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(pixel_values=rgb).logits
    return logits


def as_timm(model: ViTForImageClassification) -> State:
    """State dict with timm's names, which are also ours, and three channels."""
    ours = import_vit(model.state_dict()).state_dict()
    rgb = model.state_dict()["vit.embeddings.patch_embeddings.projection.weight"]
    return {**ours, "patch_embed.proj.weight": rgb}


def as_torchvision(model: ViTForImageClassification, *, old: bool = False) -> State:
    """State dict with torchvision's names; before 0.13 the MLP layers were linear_1, linear_2."""
    first, second = ("linear_1", "linear_2") if old else ("0", "3")
    rules = (
        (r"^cls_token$", "class_token"),
        (r"^patch_embed\.proj\.", "conv_proj."),
        (r"^pos_embed$", "encoder.pos_embedding"),
        (r"^norm\.", "encoder.ln."),
        (r"^head\.", "heads.head."),
        (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
        (r"\.attn\.proj\.", ".self_attention.out_proj."),
        (r"\.mlp\.fc1\.", f".mlp.{first}."),
        (r"\.mlp\.fc2\.", f".mlp.{second}."),
    )
    renamed = {}
    for name, tensor in as_timm(model).items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def check_same_logits(state: State, model: ViTForImageClassification) -> None:
    grey, rgb = grey_images()
    imported = import_vit(state)
    with torch.inference_mode():
        ours = imported(grey)
    torch.testing.assert_close(ours, expected_logits(model, rgb), rtol=0, atol=TOLERANCE)


def test_transformers_names_in_memory() -> None:
    model = reference()
    check_same_logits(model.state_dict(), model)


def test_transformers_names_on_disk(tmp_path: Path) -> None:
    model = reference()
    model.save_pretrained(tmp_path)
    state = load_state(tmp_path / "model.safetensors")
    assert any("attention.attention.query" in name for name in state)
    check_same_logits(state, model)


def test_the_real_vit_b_16() -> None:
    model = reference(full_size=True)
    check_same_logits(model.state_dict(), model)


def test_timm_names() -> None:
    model = reference()
    check_same_logits(as_timm(model), model)


@pytest.mark.parametrize("old", [False, True])
def test_torchvision_names(old: bool) -> None:
    model = reference()
    check_same_logits(as_torchvision(model, old=old), model)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_training_state_of_a_wrapped_model(tmp_path: Path, wrapper: str) -> None:
    model = reference()
    state = {f"module.{name}": tensor for name, tensor in as_torchvision(model).items()}
    torch.save({wrapper: state, "epoch": 12}, tmp_path / "best_model.pt")
    check_same_logits(load_state(tmp_path / "best_model.pt"), model)


def test_the_guides_geometry_becomes_a_checkpoint(tmp_path: Path) -> None:
    """40 mels × 224 frames, min-max, resized to 224 × 224, 16 classes: configs/guide.yaml."""
    model = reference()
    torch.save(as_torchvision(model), tmp_path / "best_model.pt")
    guide = ROOT / "configs" / "guide.yaml"
    options = ImportOptions(front_end=guide, name="guide")
    import_checkpoint(str(tmp_path / "best_model.pt"), tmp_path / "guide", options)
    checkpoint = load_checkpoint(CheckpointFolder.open(tmp_path / "guide"))
    mel = checkpoint.manifest.mel
    assert (mel.n_mels, mel.n_frames, mel.hop_length, mel.n_fft) == (40, 224, 256, 1024)
    windows = torch.randint(0, 256, (2, 40, 224), dtype=torch.uint8)
    unit = windows.float() - windows.float().amin(dim=(1, 2), keepdim=True)
    unit = unit / unit.amax(dim=(1, 2), keepdim=True)
    square = torch.nn.functional.interpolate(unit[:, None], (224, 224), mode="bilinear")
    with torch.inference_mode():
        ours = checkpoint.model(checkpoint.scaling.apply(windows))
    expected = expected_logits(model, square.expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours, expected, rtol=0, atol=TOLERANCE * 5)


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("/")}, tmp_path / "best_model.pt")
    with pytest.raises(CheckpointError, match="objects are refused"):
        load_state(tmp_path / "best_model.pt")


def test_weights_of_no_vit_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.safetensors")
    with pytest.raises(CheckpointError, match="names are not those"):
        import_vit(load_file(tmp_path / "resnet.safetensors"))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"not a \.safetensors"):
        load_state(tmp_path / "model.h5")


def test_a_missing_layer_is_refused() -> None:
    state = as_timm(reference())
    del state["blocks.1.norm1.weight"]
    with pytest.raises(CheckpointError, match="not a ViT that can be imported"):
        import_vit(state)
