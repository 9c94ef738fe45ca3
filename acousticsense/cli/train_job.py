"""From the options of `acousticsense train` to a training job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deployments.built_in import DEFAULT_CHECKPOINT, built_in

if TYPE_CHECKING:
    from torch import Tensor

    from acoustic.classify.engine_config import Accelerator
    from acoustic.geometry import MelConfig
    from acoustic.training.job import Job
    from acoustic.training.optimiser import OptimiserName


def make_job(
    out: Path,
    *,
    start_from: Path | None,
    variant: str | None,
    trunk: Path | None,
    musicnn: Path | None,
    window_s: float | None,
    device: Accelerator,
    name: str,
    version: str,
    resume: bool,
    crops: int | None,
    max_minutes: float | None,
    noise: bool,
    optimiser: OptimiserName | None,
    layer_decay: float | None,
    gradient_checkpointing: bool,
    seed: int,
    probe: bool,
    unfreeze: int | None,
    threads: int,
) -> Job:
    """What to train; the checkpoint to fine-tune, or the trunks, are loaded here.

    Raises:
        ValueError: settings that contradict each other or are out of range.
        CheckpointError: the checkpoint or the trunk cannot be used.
    """
    from acoustic.checkpoint_folder import CheckpointFolder
    from acoustic.classify.checkpoint import load_checkpoint
    from acoustic.classify.engine import plan_execution
    from acoustic.classify.engine_config import EngineConfig
    from acoustic.classify.vit_config import VARIANTS
    from acoustic.data.groups import trained_groups
    from acoustic.data.unseen import trained_collections
    from acoustic.training.job import Job
    from acoustic.training.recipes import default_recipe, without_noise
    from acoustic.training.trainer import native_precision
    from acoustic.training.trunk import FRONTS

    _refuse_unused(start_from, variant, window_s, trunk, musicnn)
    if probe and unfreeze is None and (resume or crops or max_minutes):
        raise ValueError(
            "a probe has no schedule: --resume, --crops and --max-minutes are for training, with "
            "--unfreeze"
        )
    if (probe or unfreeze is not None) and not start_from:
        raise ValueError("--probe and --unfreeze need a checkpoint: give it with --from")
    if not start_from and not variant:
        start_from = built_in(DEFAULT_CHECKPOINT)
    known = load_checkpoint(CheckpointFolder.open(start_from)) if start_from else None
    chosen = _known(variant or next(iter(FRONTS)))
    weights = None
    if known is None and chosen in FRONTS:
        weights = _trunks(chosen, trunk, musicnn)
    recipe = default_recipe(known.model.config if known else VARIANTS[chosen])
    recipe = recipe if noise else without_noise(recipe)
    where = plan_execution(EngineConfig(accelerator=device)).device
    decay = (0.75 if known else 1.0) if layer_decay is None else layer_decay
    return Job(
        out=out,
        name=name,
        version=version,
        variant=chosen,
        mel=_geometry(chosen, window_s),
        trunk=weights,
        start_from=known,
        recipe=replace(
            recipe,
            n_crops=crops or recipe.n_crops,
            max_minutes=max_minutes,
            seed=seed,
            precision=native_precision(where),
            gradient_checkpointing=gradient_checkpointing,
            optimiser=replace(
                recipe.optimiser, name=optimiser or recipe.optimiser.name, layer_decay=decay
            ),
        ),
        device=cast("Accelerator", where),
        probe=probe,
        unfreeze=unfreeze,
        n_threads=threads,
        resume=resume,
        known_groups=trained_groups(known.folder) if known else (),
        known_collections=trained_collections(known.folder) if known else (),
    )


def refuse_existing(out: Path, may_exist: bool) -> None:
    """Raise a ConfigError if the folder has a checkpoint that may not be replaced."""
    from acoustic.checkpoint_folder import WEIGHTS_FILE
    from acoustic.errors import ConfigError

    if (out / WEIGHTS_FILE).exists() and not may_exist:
        raise ConfigError(f"{out} has a checkpoint already: choose a new folder, or --overwrite")


def _trunks(variant: str, trunk: Path | None, musicnn: Path | None) -> dict[str, Tensor]:
    """Weights of a variant's pre-trained trunks, by name."""
    from acoustic.classify.vit_config import VARIANTS
    from acoustic.training.trunk import read_second_trunk, read_trunk

    default = built_in(DEFAULT_CHECKPOINT)
    weights = read_trunk(trunk or default)
    return weights | read_second_trunk(musicnn or default) if VARIANTS[variant].musicnn else weights


def _refuse_unused(
    start_from: Path | None,
    variant: str | None,
    window_s: float | None,
    trunk: Path | None,
    musicnn: Path | None,
) -> None:
    from acoustic.classify.vit_config import VARIANTS
    from acoustic.training.trunk import FRONTS

    is_given = window_s or trunk or musicnn
    if ((start_from or not variant) and is_given) or (start_from and variant):
        raise ValueError(
            "a fine-tuned checkpoint keeps its variant, window and trunk: give them with "
            "--variant and without --from"
        )
    if trunk and variant not in FRONTS:
        raise ValueError(
            f"{variant} has no pre-trained trunk: --trunk is for {' and '.join(FRONTS)}"
        )
    if musicnn and not (variant in VARIANTS and VARIANTS[variant].musicnn):
        raise ValueError(f"{variant} has no second trunk: --musicnn is for vit_hybrid_musicnn")


def _known(variant: str) -> str:
    from acoustic.classify.vit_config import VARIANTS

    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}, known are {', '.join(VARIANTS)}")
    return variant


def _geometry(variant: str, window_s: float | None) -> MelConfig:
    """The variant's front end with the whole number of patches nearest to a window's length."""
    from acoustic.classify.vit_config import VARIANTS
    from acoustic.geometry import MelConfig
    from acoustic.training.trunk import FRONTS

    mel = FRONTS[variant].mel if variant in FRONTS else MelConfig()
    if window_s is None:
        return mel
    if not 0.7 <= window_s <= 30:
        raise ValueError(f"window is {window_s:g} s, limits are 0.7 to 30 s")
    size = VARIANTS[variant].patch_size
    patches = round(window_s * mel.sample_rate / mel.hop_length / size)
    return replace(mel, n_frames=patches * size)
