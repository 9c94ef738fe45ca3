"""Routes our log records through Serve's logger: one file per replica, with request ids.

Serve attaches its handlers (text or JSON) to its own logger only. Without this, the records of
this project would appear as plain text in the worker's output.
"""

from __future__ import annotations

import logging

SERVE_LOGGER = "ray.serve"
OURS = ("acoustic", "deployments")


def use_serve_logger() -> None:
    """Make Serve's logger the parent of ours; every replica calls it once, in its constructor.

    The level, the handlers and every later change of `logging_config` then apply to both.
    """
    for name in OURS:
        logging.getLogger(name).parent = logging.getLogger(SERVE_LOGGER)
