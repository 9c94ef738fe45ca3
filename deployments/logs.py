"""Our log lines go where Serve's own go: one file a replica, as text or JSON, with request ids.

Serve gives its own logger the handlers and leaves every other one alone, so that without this the
lines of this project would end as bare text among the worker's output.
"""

from __future__ import annotations

import logging

SERVE_LOGGER = "ray.serve"
OURS = ("acoustic", "deployments")


def join_serve_log() -> None:
    """Called once in every replica, by the constructor of its class.

    The list of handlers itself is shared, so a later change of `logging_config` counts for both.
    """
    serve_logger = logging.getLogger(SERVE_LOGGER)
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers = serve_logger.handlers
        logger.setLevel(serve_logger.level)
        logger.propagate = False
