"""One file of a batch job, before anything was read of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

CHECKSUMS = ("sha256", "md5")
UNKNOWN_SIZE = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file to classify.

    Attributes:
        uri: as it is opened and reported.
        size_bytes: as listed, UNKNOWN_SIZE where only a manifest names it.
        checksums: one of CHECKSUMS → hex digest that its bytes must have.
        extras: other columns of its manifest, passed through.
    """

    uri: str
    size_bytes: int = UNKNOWN_SIZE
    checksums: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """16 hex digits that stand for the URI, the same in every listing."""
        return hashlib.sha256(self.uri.encode()).hexdigest()[:16]
