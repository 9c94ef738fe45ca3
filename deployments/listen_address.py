"""Checks an address to listen on, before a server is started that reports errors less clearly."""

from __future__ import annotations

import errno
import ipaddress
import socket

from acoustic.errors import ConfigError

MAX_PORT = 65_535


def check_listen_address(host: str, port: int) -> None:
    """Check that this machine can listen on an address.

    Args:
        host: name or address, IPv4 or IPv6.
        port: port, 1 to 65,535.

    Raises:
        ConfigError: with what is wrong: the port, the host, or who has the port.
    """
    if not 1 <= port <= MAX_PORT:
        raise ConfigError(f"port is {port}, limits are 1 to {MAX_PORT}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(
            f"host {host!r} is not known: use 127.0.0.1, or 0.0.0.0 for all addresses"
        ) from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigError(_reason(host, port, error)) from error


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: choose another --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{host} is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for all addresses"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights: choose a --port from 1024"
    return f"port {port} on {host} cannot be used: {(error.strerror or str(error)).lower()}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: every one that a name stands for.

    Args:
        host: name or address, which `check_listen_address` has accepted.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)


def url_of(host: str, port: int) -> str:
    """URL under which this machine reaches a server that listens on an address."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
