"""File systems by URI: local paths, S3 and its likes, Google Cloud Storage, Azure.

Credentials come from each cloud's usual environment. Stores that are not AWS often refuse the
checksum trailers that its client sends by default, so those are only sent where a request
demands them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow
from pyarrow import fs

from acoustic.errors import (
    AcousticError,
    ConfigError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from deployments.batch.retry import persist

CHECKSUM_VARIABLES = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
CONNECT_TIMEOUT_S = 5.0
REMOTE_SCHEMES = ("s3", "gs", "az", "abfs")


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageOptions:
    """How object stores are reached.

    Attributes:
        endpoint: URL of an S3-like store, "" for AWS or AWS_ENDPOINT_URL.
        region: of the bucket, "" for the environment's.
        anonymous: whether to go without credentials.
        timeout_s: after which a request that gets no byte is given up.
    """

    endpoint: str = ""
    region: str = ""
    anonymous: bool = False
    timeout_s: float = 30.0


def open_filesystem(uri: str, options: StorageOptions) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the path in it.

    Args:
        uri: a local path, or with the scheme file, s3, gs, az or abfs.
        options: of object stores.

    Raises:
        ConfigError: an unknown scheme, or one whose client is not installed.
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
    raise ConfigError(f"{uri}: unknown scheme, known are local paths, file://, {known}")


def split_scheme(uri: str) -> tuple[str, str]:
    """("s3", "bucket/key") of "s3://bucket/key"; ("", path) of a local path."""
    scheme, separator, path = uri.partition("://")
    return (scheme.lower(), path) if separator else ("", uri)


def write_atomically(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    """A file that is there whole or not at all.

    An object store makes an object visible when its upload is complete; on a local disk a rename
    does the same. An upload that fails is tried again.

    Raises:
        SourceUnavailableError, SourceForbiddenError: the store does not take it.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        persist(lambda: _upload(filesystem, path, content))
        return
    with as_ours(path):
        _replace(path, content)


def _replace(path: str, content: bytes) -> None:
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _upload(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    with as_ours(path), filesystem.open_output_stream(path) as stream:
        stream.write(content)


def as_source_error(error: OSError, uri: str) -> AcousticError:
    """Our own class for what a store answered.

    Returns:
        SourceNotFoundError and SourceForbiddenError are final; after a SourceUnavailableError
        another try may help.
    """
    text = str(error)
    if isinstance(error, FileNotFoundError) or "NO_SUCH_KEY" in text or "HTTP status 404" in text:
        return SourceNotFoundError(f"{uri} does not exist")
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in text or "HTTP status 403" in text:
        return SourceForbiddenError(f"{uri} may not be read: the store denies access")
    if isinstance(error, IsADirectoryError):
        return SourceNotFoundError(f"{uri} is a folder")
    return SourceUnavailableError(f"the store failed at {uri}: {type(error).__name__}")


@contextmanager
def as_ours(uri: str) -> Iterator[None]:
    """A store's error becomes one of ours."""
    try:
        yield
    except OSError as error:
        raise as_source_error(error, uri) from error
    except (pyarrow.ArrowException, ValueError) as error:  # a path that no store can have
        raise SourceNotFoundError(f"{uri!r} is no path of this store") from error


def _s3(options: StorageOptions) -> fs.FileSystem:
    for name in CHECKSUM_VARIABLES:
        os.environ.setdefault(name, "when_required")
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    place = urlsplit(endpoint)
    if endpoint and not (place.scheme in ("http", "https") and place.netloc):
        raise ConfigError(f"endpoint {endpoint!r} is no URL such as https://host:9000")
    return fs.S3FileSystem(
        endpoint_override=place.netloc or None,
        scheme=place.scheme or "https",
        region=options.region or os.environ.get("AWS_REGION") or ("auto" if endpoint else None),
        anonymous=options.anonymous,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=options.timeout_s,
        allow_delayed_open=True,  # a small object by one request instead of three
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),  # ours counts and waits
    )


def _azure() -> fs.FileSystem:
    try:
        import adlfs
    except ImportError as error:
        raise ConfigError(
            "az:// needs the extra acousticsense[azure]: pip install 'acousticsense[azure]'"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(adlfs.AzureBlobFileSystem()))
