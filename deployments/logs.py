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

    Serve's logger becomes the parent of ours, so its level, its handlers and every later change of
    `logging_config` count for both.
    """
    for name in OURS:
        logging.getLogger(name).parent = logging.getLogger(SERVE_LOGGER)
