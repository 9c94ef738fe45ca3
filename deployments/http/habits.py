"""What clients do by habit, and the answer that helps: accept it, or say what to send instead."""

from __future__ import annotations

import base64
import binascii
import re

from starlette.requests import Request

from acoustic.errors import InvalidRequestError, UnsupportedAudioError

FORM_TYPE = "application/x-www-form-urlencoded"
"""Content type that curl sends with -d and --data-binary alike."""

MIN_STRIPPED_BYTES = 512
"""From this size on, audio without a zero byte or a line end is not by chance without them."""

MAX_NAME_BYTES = 256

_DATA_URI = re.compile(r"data:[^,]{0,256};base64,", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_URL_SAFE = str.maketrans("-_", "+/")


def check_habits(request: Request, max_query_bytes: int) -> None:
    """Reject what no request needs, before its body is read.

    Args:
        request: request to classify audio.
        max_query_bytes: longest query string, bytes.

    Raises:
        InvalidRequestError: a longer query string.
        UnsupportedAudioError: a body in a content coding such as gzip.
    """
    n_bytes = len(request.scope.get("query_string", b""))
    if n_bytes > max_query_bytes:
        raise InvalidRequestError(
            f"the query has {n_bytes:,} bytes, limit is {max_query_bytes:,} bytes; send options "
            "in a form or in JSON, and audio in the body"
        )
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedAudioError(
            f"the body has the content coding {coding[:32]!r}, bodies are not unpacked: send the "
            "file as it is, without Content-Encoding"
        )


def check_curl_data(content_type: str, body: bytes) -> None:
    """Reject a body that `curl -d` has changed, or that is the name of a file.

    Args:
        content_type: media type of the body.
        body: the whole body.

    Raises:
        InvalidRequestError: with the option of curl that sends the file itself.
    """
    if content_type != FORM_TYPE:
        return
    if len(body) >= MIN_STRIPPED_BYTES and not any(byte in body for byte in (b"\0", b"\n", b"\r")):
        raise InvalidRequestError(
            "the body has no zero bytes and no line ends: `curl -d` removes them; send it with "
            "--data-binary @FILE"
        )
    if 0 < len(body) <= MAX_NAME_BYTES and body.isascii() and body.decode().isprintable():
        name = body.decode()
        raise InvalidRequestError(
            f"the body is the text {name[:64]!r}, not a file: with curl, send a file with "
            "--data-binary @FILE"
        )


def decode_base64(text: str) -> bytes:
    """Bytes of base64 text: also of a data URI, wrapped, URL-safe, or without padding.

    Args:
        text: text of the JSON field "audio".

    Raises:
        InvalidRequestError: other characters, or a length that base64 cannot have.
    """
    match = _DATA_URI.match(text)
    compact = _SPACE.sub("", text[match.end() :] if match else text).translate(_URL_SAFE)
    compact = compact.rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            '"audio" is not valid base64: send the bytes of the file in base64, or a data URI'
        ) from error
