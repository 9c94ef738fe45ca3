"""URIs that can be read in one way only."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from acoustic.errors import InvalidRequestError, SourceForbiddenError

MAX_URI_CHARACTERS = 2048


def parsed(uri: str) -> SplitResult:
    """The parts of a URI that only one reading has.

    Raises:
        InvalidRequestError: it has another form.
        SourceForbiddenError: it names more of a host than its name.
    """
    if len(uri) > MAX_URI_CHARACTERS:
        raise InvalidRequestError(
            f"uri has {len(uri):,} characters, limit is {MAX_URI_CHARACTERS:,}"
        )
    if not uri.isascii() or not uri.isprintable() or any(c in uri for c in ' \\"<>^`{|}'):
        raise InvalidRequestError("uri has characters that must be percent-encoded")
    try:
        parts = urlsplit(uri)
        has_port = parts.port is not None
    except ValueError as error:
        raise InvalidRequestError("uri cannot be read") from error
    if not parts.scheme or "://" not in uri:
        raise InvalidRequestError("uri has no scheme such as https://")
    if "@" in parts.netloc or has_port or "%" in parts.netloc or "[" in parts.netloc:
        raise SourceForbiddenError("uri may name a host by its name alone: no user, port, address")
    if parts.fragment or "#" in uri:
        raise InvalidRequestError("uri has a fragment")
    if "%00" in uri:
        raise InvalidRequestError("uri has a null character")
    return parts
