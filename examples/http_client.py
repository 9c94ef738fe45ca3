"""Send files to a running service: `python examples/http_client.py URL FILE…`.

The standard library is enough. Several files go in one form; a refusal names its reason, and an
overloaded service is asked again after the time that it states.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

MAX_TRIES = 5


def main() -> None:
    """Print one line per file; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description="Send files to a running service.")
    parser.add_argument("url", help="such as http://127.0.0.1:8000")
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    url = arguments.url.rstrip("/")
    reply = post(f"{url}/v1/classify?effort=balanced", arguments.files)
    n_failed = 0
    for result in reply.get("results", [reply]):
        if "error" in result:
            n_failed += 1
            print(f"{result.get('file', '')}: {result['error']['message']}")
        else:
            review = " (review)" if result["needs_review"] else ""
            print(f"{result['file']}: {result['top_genre']} {result['confidence']:.0%}{review}")
    sys.exit(1 if n_failed else 0)


def post(url: str, files: list[Path]) -> dict[str, Any]:
    """The reply to a multipart form with every file in a field named "file"."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + file.read_bytes()
        + b"\r\n"
        for file in files
    ]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    content_type = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    for _ in range(MAX_TRIES):
        request = urllib.request.Request(url, body, content_type)
        try:
            with urllib.request.urlopen(request) as response:
                reply: dict[str, Any] = json.load(response)
                return reply
        except urllib.error.HTTPError as error:
            if error.code != 429:
                failure: dict[str, Any] = json.load(error)
                return failure
            time.sleep(float(error.headers["Retry-After"]))
    sys.exit("the service stayed overloaded")


if __name__ == "__main__":
    main()
