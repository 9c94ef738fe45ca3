"""Builds the Serve application; serve_config.yaml names the builder as `deployments.app:build`.

No `from __future__ import annotations` in here: Ray reads the argument's annotation to validate
the file's `args`, and with postponed annotations it would silently pass the raw dictionary.
"""

import logging
from dataclasses import replace

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.engine_config import Accelerator
from deployments.built_in import DEFAULT_SETTINGS, root
from deployments.config import load_config
from deployments.stages.classify import Classify
from deployments.stages.ingress import Ingress
from deployments.stages.postprocess import Postprocess
from deployments.stages.preprocess import Preprocess

logger = logging.getLogger(__name__)


class AppArgs(BaseModel):
    """The `args` of the application in serve_config.yaml.

    Attributes:
        config: path of the settings file: absolute, or relative to the repository or the image;
            `acousticsense serve` looks beside the Serve configuration first.
        accelerator: device that runs the model; auto takes a GPU if the cluster has one.
        classify_cpus: CPUs reserved per Classify replica.
    """

    model_config = ConfigDict(extra="forbid")

    config: str = DEFAULT_SETTINGS
    accelerator: Accelerator = "auto"
    classify_cpus: float = 1.0


def build(args: AppArgs) -> Application:
    """Serve application of the four deployments.

    Args:
        args: `args` of the application in serve_config.yaml.

    Raises:
        ConfigError: a setting is not valid.
        CheckpointError: the checkpoint cannot be read.
    """
    config = load_config(root() / args.config)
    accelerator = _resolve(
        config.engine.accelerator if args.accelerator == "auto" else args.accelerator
    )
    engine = replace(config.engine, accelerator=accelerator)
    config = replace(config, engine=engine)
    folder = config.checkpoint_folder
    CheckpointFolder.open(folder)  # a bad folder ends the build here, not in every replica
    logger.info("effective configuration: %s", config)
    preprocess = serve.deployment(Preprocess).bind(folder, config.preprocess, config.cache)
    classify = serve.deployment(
        Classify,
        ray_actor_options={
            "num_cpus": args.classify_cpus,
            "num_gpus": 1 if accelerator == "cuda" else 0,
        },
    ).bind(folder, engine)
    postprocess = serve.deployment(Postprocess).bind(folder, config.postprocess)
    ingress = serve.deployment(serve.ingress()(Ingress))
    application: Application = ingress.bind(preprocess, classify, postprocess, config)
    return application


def _resolve(accelerator: Accelerator) -> Accelerator:
    """Accelerator for `auto`, from the cluster: the builder's own node may have no GPU."""
    if accelerator != "auto":
        return accelerator
    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "auto"
