"""Opens file systems by URI: local paths, S3-compatible stores, Google Cloud Storage, Azure.

Credentials come from each cloud's standard environment. S3-compatible stores other than AWS often
reject the checksum trailers that the AWS client sends by default, so those are only sent where a
request requires them.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow
from pyarrow import fs

from acoustic.errors import (
    AcousticError,
    ConfigError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from deployments.batch.backoff import with_retries

CHECKSUM_VARIABLES = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
CONNECT_TIMEOUT_S = 5.0
REMOTE_SCHEMES = ("s3", "gs", "az", "abfs")


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageOptions:
    """Settings for object stores.

    Attributes:
        endpoint: URL of an S3-compatible store; "" for AWS_ENDPOINT_URL, or AWS without it.
        region: region of the bucket; "" for the one in AWS_REGION.
        anonymous: whether to send requests without credentials.
        timeout_s: seconds without a received byte after which a request fails.
    """

    endpoint: str = ""
    region: str = ""
    anonymous: bool = False
    timeout_s: float = 30.0


def open_filesystem(uri: str, options: StorageOptions) -> tuple[fs.FileSystem, str]:
    """File system of a URI, and the path in it.

    Args:
        uri: local path, or URI with the scheme file, s3, gs, az or abfs.
        options: settings for object stores.

    Raises:
        ConfigError: the scheme is unknown, or its client is not installed.
    """
    scheme, path = split_scheme(uri)
    if scheme in ("", "file"):
        return fs.LocalFileSystem(), str(Path(path).absolute())
    if scheme == "s3":
        return _s3(options), path
    if scheme == "gs":
        return fs.GcsFileSystem(anonymous=options.anonymous), path
    if scheme in ("az", "abfs"):
        return _azure(), path
    known = ", ".join(f"{each}://" for each in REMOTE_SCHEMES)
    raise ConfigError(f"{uri}: unknown scheme, use a local path, file://, {known}")


def split_scheme(uri: str) -> tuple[str, str]:
    """("s3", "bucket/key") of "s3://bucket/key"; ("", path) of a local path.

    A file URI is percent-encoded, and may name this machine: "file://localhost/a%20b.wav".
    """
    scheme, separator, path = uri.partition("://")
    if not separator:
        return "", uri
    if scheme.lower() == "file":
        host, slash, rest = path.partition("/")
        path = f"/{rest}" if slash and host in ("", "localhost", "127.0.0.1") else path
        return "file", unquote(path, errors="surrogateescape")
    return scheme.lower(), path


def write_atomically(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file so that it is either complete or absent.

    An object store makes an object visible when its upload is complete; on a local disk a rename
    does the same. An upload that fails is retried.

    Raises:
        SourceUnavailableError, SourceForbiddenError: the store rejects the file.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        with_retries(lambda: _upload(filesystem, path, content))
        return
    with translating_store_errors(path):
        _replace(path, content)


def _replace(path: str, content: bytes) -> None:
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a crash may leave an incomplete file
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _upload(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    with translating_store_errors(path), filesystem.open_output_stream(path) as stream:
        stream.write(content)


def as_source_error(error: OSError, uri: str) -> AcousticError:
    """AcousticError for an error of a store.

    Returns:
        SourceNotFoundError and SourceForbiddenError are final; after a SourceUnavailableError a
        retry may succeed.
    """
    # pyarrow raises a plain OSError for many S3 errors; only its text has the store's code
    text = str(error)
    if isinstance(error, FileNotFoundError) or "NO_SUCH_KEY" in text or "HTTP status 404" in text:
        return SourceNotFoundError(f"{uri} does not exist")
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in text or "HTTP status 403" in text:
        return SourceForbiddenError(f"{uri} may not be read: the store denies access")
    if error.errno == errno.ELOOP:
        return SourceNotFoundError(f"{uri} is a link that leads back to itself")
    if error.errno == errno.ENOSPC or "No space left" in text:
        return SourceUnavailableError(f"no space is left to write {uri}")
    if isinstance(error, IsADirectoryError):
        return SourceNotFoundError(f"{uri} is a folder")
    return SourceUnavailableError(f"the store failed at {uri}: {type(error).__name__}")


@contextmanager
def translating_store_errors(uri: str) -> Iterator[None]:
    """Context manager that raises a store's errors as AcousticError."""
    try:
        yield
    except OSError as error:
        raise as_source_error(error, uri) from error
    except (pyarrow.ArrowException, ValueError) as error:  # e.g. an invalid path
        raise SourceNotFoundError(f"{uri!r} is not a valid path for this store") from error


def _s3(options: StorageOptions) -> fs.FileSystem:
    for name in CHECKSUM_VARIABLES:
        os.environ.setdefault(name, "when_required")
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    place = urlsplit(endpoint)
    if endpoint and not (place.scheme in ("http", "https") and place.netloc):
        raise ConfigError(f"endpoint {endpoint!r} is not a URL like https://host:9000")
    return fs.S3FileSystem(
        endpoint_override=place.netloc or None,
        scheme=place.scheme or "https",
        region=options.region or os.environ.get("AWS_REGION") or ("auto" if endpoint else None),
        anonymous=options.anonymous,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=options.timeout_s,
        allow_delayed_open=True,  # one request for a small object, not three
        retry_strategy=fs.AwsStandardS3RetryStrategy(
            max_attempts=1
        ),  # `with_retries` retries instead
    )


def _azure() -> fs.FileSystem:
    try:
        import adlfs
    except ImportError as error:
        raise ConfigError(
            "az:// needs the extra acousticsense[azure]: pip install 'acousticsense[azure]'"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(adlfs.AzureBlobFileSystem()))
