"""Builds the three stages in this process from settings and arguments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.engine_config import Accelerator, Precision
from acoustic.content_cache import CacheConfig
from acoustic.labels import LabelSet
from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.postprocess.postprocessor import Postprocessor
from deployments.config import BUILT_IN, ServiceConfig, load_config
from deployments.taxonomies import taxonomy_name, with_taxonomy


def open_pipeline(
    config: str | Path | None = None,
    model: str | Path = BUILT_IN,
    device: Accelerator = "auto",
    precision: Precision = "auto",
    cache: CacheConfig | str | Path | None = None,
    taxonomy: str = "",
    content_digest: bool = False,
) -> Pipeline:
    """The three stages as the service would run them.

    Args:
        config: file of settings; None for the built-in one.
        model: the string "default" for the checkpoint that the settings name, or a folder.
        device: "auto" for the settings' own.
        precision: "auto" for the settings' own.
        cache: see `Classifier`.
        taxonomy: what the caller will ask for, by name or as a file.
        content_digest: see `Classifier`.

    Raises:
        ConfigError: the settings cannot be used.
        CheckpointError: the checkpoint cannot be used.
    """
    settings = _settings(config, model)
    engine = settings.engine
    postprocess = with_taxonomy(settings.postprocess, taxonomy)
    if device != "auto":
        engine = replace(engine, accelerator=device)
    if precision != "auto":
        engine = replace(engine, precision=precision)
    bounds = CacheConfig(folder=str(cache)) if isinstance(cache, (str, Path)) else cache
    return Pipeline.from_folder(
        settings.checkpoint_folder,
        PipelineConfig(
            preprocess=settings.preprocess,
            cache=bounds,
            with_digest=content_digest,
            engine=engine,
            postprocess=postprocess,
        ),
    )


def labels_of(
    config: str | Path | None = None, model: str | Path = BUILT_IN, taxonomy: str = ""
) -> LabelSet:
    """The genres of the answers; no model is loaded.

    Args:
        config: see `open_pipeline`.
        model: see `open_pipeline`.
        taxonomy: by name or as a file; "" for the model's own genres.

    Raises:
        ConfigError: the settings cannot be used.
        CheckpointError: the checkpoint cannot be used.
        InvalidOptionError: the taxonomy is not known.
    """
    settings = _settings(config, model)
    postprocess = with_taxonomy(settings.postprocess, taxonomy)
    folder = CheckpointFolder.open(settings.checkpoint_folder)
    stage = Postprocessor.from_folder(folder, postprocess)
    return stage.labels_of(taxonomy_name(taxonomy))


def _settings(config: str | Path | None, model: str | Path) -> ServiceConfig:
    settings = load_config(None if config is None else Path(config))
    if model == BUILT_IN:
        return settings
    return replace(settings, checkpoint=str(Path(model).absolute()))
