"""The files that are part of the product: settings, rules, the default checkpoint, dashboards.

In a checkout they are where the repository has them. A wheel carries copies in
`deployments/_built_in`, in the same layout, so a relative path in one of these files means the
same in both.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from acoustic.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGED = "_built_in"

DEFAULT_SETTINGS = "configs/default.yaml"
DEFAULT_CHECKPOINT = "models/default"
RULES = "configs/rules.yaml"
GUIDE_RULES = "configs/rules-guide.yaml"
GUIDE_FRONT_END = "configs/guide.yaml"
LABEL_MAPS = "configs/labels"
TAXONOMIES = "configs/taxonomies"
SERVE_CONFIG = "serve_config.yaml"
COLOCATED = "configs/serve/colocated.yaml"
GRAFANA = "configs/grafana"


def built_in(name: str) -> Path:
    """Absolute path of a built-in file or folder.

    Args:
        name: relative to the repository's root, such as "configs/default.yaml".
    """
    return root() / name


def root() -> Path:
    """The folder that built-in names are relative to: the wheel's copies, else the checkout."""
    packaged = Path(str(files("deployments"))) / PACKAGED
    return packaged if packaged.is_dir() else CHECKOUT


def checkout(purpose: str) -> Path:
    """The repository's root, for commands that write files of the repository.

    Args:
        purpose: what needs it, for the message, such as "k8s render".

    Raises:
        ConfigError: this installation is not a checkout.
    """
    if not (CHECKOUT / "pyproject.toml").is_file():
        raise ConfigError(
            f"{purpose} needs a checkout of the repository: this is an installed wheel; "
            "clone the repository and run it there"
        )
    return CHECKOUT
