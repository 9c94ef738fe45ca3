"""An input file of a batch job: URI, size, checksums, columns of its manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from acoustic.file_walk import printable

CHECKSUMS = ("sha256", "md5")
UNKNOWN_SIZE = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file to classify.

    Attributes:
        uri: path or URI by which the file is opened; a local name that is not UTF-8 has lone
            surrogates.
        size_bytes: size from the listing, UNKNOWN_SIZE where only a manifest names the file.
        mtime_ns: time of change from the listing, nanoseconds; UNKNOWN_SIZE where it is not known.
        checksums: one of CHECKSUMS → hex digest that the content must have.
        extras: other columns of the manifest → their values, passed through to the results.
    """

    uri: str
    size_bytes: int = UNKNOWN_SIZE
    mtime_ns: int = UNKNOWN_SIZE
    checksums: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """16 hex digits derived from the URI, the same in every listing."""
        return hashlib.sha256(self.uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The URI as valid text, for results and messages."""
        return printable(self.uri)
