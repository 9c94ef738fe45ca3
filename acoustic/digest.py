"""Short digests that identify a configuration, for cache keys and every reply."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

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
