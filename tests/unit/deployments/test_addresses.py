"""Start-up errors: one sentence for each thing that can be wrong with an address."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from acoustic.errors import ConfigError
from acousticsense.cli.serve import _refuse_open_network
from deployments import ray_address
from deployments.config import API_KEY_VARIABLE, API_KEYS_FILE_VARIABLE
from deployments.listen_address import check_listen_address, is_loopback, url_of
from deployments.ray_address import check_address, connect


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", 99_999, "port is 99999, limits are 1 to 65535"),
        ("127.0.0.1", -1, "port is -1"),
        ("127.0.0.1", 0, "port is 0"),
        ("192.0.2.7", 8000, "not an address of this machine"),
        ("nowhere.invalid", 8000, "host 'nowhere.invalid' is not known"),
        ("", 99_999, "port is 99999"),
    ],
)
def test_what_is_wrong_is_said(host: str, port: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_listen_address(host, port)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(ConfigError, match=r"is in use: choose another --port"):
            check_listen_address("127.0.0.1", busy.getsockname()[1])


def test_a_free_port_is_fine_in_both_families() -> None:
    check_listen_address("127.0.0.1", free_port())
    check_listen_address("localhost", free_port())
    with contextlib.suppress(OSError):  # a machine without IPv6
        check_listen_address("::1", free_port("::1"))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::1", "http://[::1]:1"),
        ("::", "http://[::1]:1"),
    ],
)
def test_the_url_of_an_address(host: str, url: str) -> None:
    assert url_of(host, 1) == url


@pytest.mark.parametrize("address", ["", "auto", "local"])
def test_named_addresses_are_left_to_ray(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8265", "127.0.0.1", "host:port", "127.0.0.1:99999", ":", "grpc://a:1"],
)
def test_other_forms_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is not host:port, ray://host:port or auto"):
        check_address(address)


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_dead_head_is_named_at_once(prefix: str) -> None:
    begun_s = time.monotonic()
    with pytest.raises(ConfigError, match="no Ray head answers at"):
        connect(f"{prefix}127.0.0.1:{free_port()}")
    assert time.monotonic() - begun_s < 10


def test_the_time_for_a_head_is_below_twenty_seconds() -> None:
    assert ray_address.CONNECT_TIMEOUT_S + ray_address.INIT_TIMEOUT_S < 20


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.9.1", True),
     ("0.0.0.0", False), ("::", False), ("192.0.2.1", False)],
)  # fmt: skip
def test_addresses_that_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_network_is_served_with_a_key_or_on_purpose(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = (API_KEY_VARIABLE, API_KEYS_FILE_VARIABLE)
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no API key is set"):
        _refuse_open_network(host, open_to_all=False)
    _refuse_open_network(host, open_to_all=True)
    _refuse_open_network("127.0.0.1", open_to_all=False)
    for name in variables:
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            _refuse_open_network(host, open_to_all=False)
