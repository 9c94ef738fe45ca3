"""Music-genre classification that says how sure it is.

>>> from acousticsense import Classifier
>>> with Classifier() as classifier:   # doctest: +SKIP
...     print(classifier.classify("song.mp3").genre)
Jazz
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from acoustic import __version__

if TYPE_CHECKING:
    from acoustic.errors import AcousticError
    from acoustic.pipeline import Pipeline
    from acoustic.prediction import Prediction
    from acoustic.request import RequestOptions
    from acousticsense.classifier import Classifier
    from acousticsense.client import AsyncClient, Client
    from acousticsense.frames import to_frame

__all__ = [
    "AcousticError",
    "AsyncClient",
    "Classifier",
    "Client",
    "Pipeline",
    "Prediction",
    "RequestOptions",
    "__version__",
    "to_frame",
]

_MODULES = {
    "AcousticError": "acoustic.errors",
    "AsyncClient": "acousticsense.client",
    "Classifier": "acousticsense.classifier",
    "Client": "acousticsense.client",
    "Pipeline": "acoustic.pipeline",
    "Prediction": "acoustic.prediction",
    "RequestOptions": "acoustic.request",
    "to_frame": "acousticsense.frames",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch would make every import slow."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
