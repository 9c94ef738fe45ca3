"""The typed app builder that serve_config.yaml names: `deployments.app:build`.

No `from __future__ import annotations` in here: Ray reads the argument's annotation to validate
the file's `args`, and with postponed annotations it would silently pass the raw dictionary.
"""

import logging
from dataclasses import replace

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from acoustic.classify.config import Accelerator
from acoustic.manifest import load_manifest
from deployments.classify import Classify
from deployments.config import PROJECT_ROOT, load_config
from deployments.ingress import Ingress
from deployments.postprocess import Postprocess
from deployments.preprocess import Preprocess

logger = logging.getLogger(__name__)


class AppArgs(BaseModel):
    """The `args` of the application in serve_config.yaml.

    Attributes:
        config: file of settings, relative to the project's root.
        accelerator: where the model runs; auto takes a GPU if the cluster has one.
        classify_cpus: CPUs reserved per Classify replica.
    """

    model_config = ConfigDict(extra="forbid")

    config: str = "configs/default.yaml"
    accelerator: Accelerator = "auto"
    classify_cpus: float = 1.0


def build(args: AppArgs) -> Application:
    """Wire the four deployments.

    Args:
        args: from serve_config.yaml.

    Raises:
        ConfigError: a setting that cannot work.
        CheckpointError: the checkpoint cannot be read.
    """
    config = load_config(PROJECT_ROOT / args.config)
    accelerator = _resolve(
        config.engine.accelerator if args.accelerator == "auto" else args.accelerator
    )
    engine = replace(config.engine, accelerator=accelerator)
    config = replace(config, engine=engine)
    folder = config.checkpoint_folder
    load_manifest(folder)
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
    """`auto` by what the cluster offers: the builder may run on a node without the GPU."""
    if accelerator != "auto":
        return accelerator
    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "auto"
