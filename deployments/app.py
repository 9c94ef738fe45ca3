"""Builds the Serve application; serve_config.yaml names the builder as `deployments.app:build`.

No `from __future__ import annotations` in here: Ray reads the argument's annotation to validate
the file's `args`, and with postponed annotations it would silently pass the raw dictionary.
"""

import logging
from dataclasses import replace
from typing import Literal

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from acoustic.classify.engine_config import Accelerator
from deployments.built_in import DEFAULT_SETTINGS, root
from deployments.config import ServiceConfig, check_models, load_config
from deployments.stages.classify import Classify
from deployments.stages.colocated import Colocated
from deployments.stages.ingress import Ingress
from deployments.stages.postprocess import Postprocess
from deployments.stages.preprocess import Preprocess

logger = logging.getLogger(__name__)

OF_OTHER_MODELS = {"max_ongoing_requests": 16, "max_queued_requests": 64}
"""Limits of the stages of further models, unless the file sets the deployment."""


class AppArgs(BaseModel):
    """The `args` of the application in serve_config.yaml.

    Attributes:
        config: path of the settings file: absolute, or relative to the repository or the image;
            `acousticsense serve` looks beside the Serve configuration first.
        accelerator: device that runs the model; auto takes a GPU if the cluster has one.
        classify_cpus: CPUs reserved per Classify replica.
        classify_gpus: GPUs reserved per Classify replica on GPUs; below 1, several share one.
        other_cpus: CPUs reserved per replica of each stage of a further model, unless the file
            sets the deployment, such as Classify-NAME.
        topology: "chain" for a deployment per stage, which scale by themselves; "colocated" for one
            that holds all three, which costs less on a single machine.
    """

    model_config = ConfigDict(extra="forbid")

    config: str = DEFAULT_SETTINGS
    accelerator: Accelerator = "auto"
    classify_cpus: float = 1.0
    classify_gpus: float = 1.0
    other_cpus: float = 0.05
    topology: Literal["chain", "colocated"] = "chain"


def build(args: AppArgs) -> Application:
    """Serve application: the ingress, and three stages for each model.

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
    check_models(config)  # a bad folder ends the build here
    logger.info("effective configuration: %s", config)
    models = {name: _stages(name, config, args) for name in ("", *config.models)}
    ingress = serve.deployment(serve.ingress()(Ingress))
    application: Application = ingress.bind(models, config)
    return application


def _stages(name: str, config: ServiceConfig, args: AppArgs) -> tuple[Application, ...]:
    """The stages of a model; those of a further one are named Preprocess-NAME and so on."""
    folder, suffix = config.model_folder(name), f"-{name}" if name else ""
    limits = OF_OTHER_MODELS if name else {}
    cpus = {"num_cpus": args.other_cpus} if name else {}

    def deployment(cls: type, **actor: float) -> serve.Deployment:
        options = {"ray_actor_options": actor} if actor else {}
        return serve.deployment(cls, name=cls.__name__ + suffix, **limits, **options)

    classify_cpus = cpus or {"num_cpus": args.classify_cpus}
    is_gpu = config.engine.accelerator == "cuda"
    gpus = {"num_gpus": args.classify_gpus if is_gpu else 0}
    if args.topology == "colocated":
        colocated = deployment(Colocated, **classify_cpus, **gpus)
        return (
            colocated.bind(
                folder,
                config.preprocess,
                config.cache,
                config.engine,
                config.postprocess,
                config.sandbox,
            ),
        )
    return (
        deployment(Preprocess, **cpus).bind(
            folder, config.preprocess, config.cache, config.sandbox
        ),
        deployment(Classify, **classify_cpus, **gpus).bind(folder, config.engine),
        deployment(Postprocess, **cpus).bind(folder, config.postprocess),
    )


def _resolve(accelerator: Accelerator) -> Accelerator:
    """Accelerator for `auto`, from the cluster: the builder's own node may have no GPU."""
    if accelerator != "auto":
        return accelerator
    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "auto"
