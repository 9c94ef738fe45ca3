"""Connects to Ray so that what is wrong with an address is one sentence, and soon.

Ray itself waits for minutes for a head that is not there, and raises errors of many kinds.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any

from acoustic.errors import ConfigError

CONNECT_TIMEOUT_S = 5.0
INIT_TIMEOUT_S = 10.0
"""Together below 20 s: after them a head is taken for dead."""

ADDRESS_VARIABLE = "RAY_ADDRESS"
NAMED = ("", "auto", "local")


def check_address(address: str) -> None:
    """Check that a Ray address is of a known form and that something listens there.

    Args:
        address: "host:port", "ray://host:port", "auto" or "local".

    Raises:
        ConfigError: another form, an unknown host, or nobody listens.
    """
    if address in NAMED:
        return
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if "://" in place or not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        hint = " (http:// is that of the jobs API)" if place.startswith("http") else ""
        raise ConfigError(
            f"Ray address {address!r}{hint} is not host:port, ray://host:port or auto; "
            f"change --address or {ADDRESS_VARIABLE}"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S):
            pass
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such host"
        raise ConfigError(f"no Ray head answers at {address}: {reason.lower()}") from error


def connect(address: str) -> None:
    """Connect this process to a Ray cluster, or start a local one.

    Args:
        address: address of a cluster; "" for the one in RAY_ADDRESS, or a new local one.

    Raises:
        ConfigError: the address cannot be used, or its head does not answer in time.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = address or os.environ.get(ADDRESS_VARIABLE, "")
    if not address:
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    check_address(address)
    # something listens; whether it is a head of Ray shows only when Ray connects
    failure: list[Exception] = []

    def init() -> None:
        try:
            ray.init(address=address, **quiet)
        except Exception as error:  # an edge: Ray raises many kinds
            failure.append(error)

    thread = threading.Thread(target=init, daemon=True)
    thread.start()
    thread.join(None if address in NAMED else INIT_TIMEOUT_S)
    if thread.is_alive():
        raise ConfigError(f"what answers at {address} did not connect within {INIT_TIMEOUT_S:g} s")
    if failure:
        reason = str(failure[0]).strip().splitlines()[0] if str(failure[0]).strip() else ""
        raise ConfigError(
            f"Ray cannot connect to {address}: {reason or type(failure[0]).__name__}"
        ) from failure[0]
