"""Digests that identify a configuration or the content of a file, for cache keys and replies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import blake3

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

N_HEX_DIGITS = 12


def config_digest(*configs: DataclassInstance | dict[str, Any] | str) -> str:
    """First 12 hex digits of the SHA-256 over the values, in canonical JSON.

    >>> config_digest({"a": 1}) == config_digest({"a": 1}) != config_digest({"a": 2})
    True
    """
    plain = [c if isinstance(c, (dict, str)) else asdict(c) for c in configs]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:N_HEX_DIGITS]


def content_digest(data: bytes) -> str:
    """The 64 hex digits of the BLAKE3 digest of a file's bytes: 0.2 ms a MB, SHA-256 takes 0.6."""
    return blake3.blake3(data).hexdigest()
