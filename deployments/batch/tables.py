"""The tables that pass between the stages of a batch job: a row a file, a block a chunk.

A chunk stays one block from the listing to its part file, so that a part has a name that follows
from its files, and a repeated write replaces what it repeats.
"""

from __future__ import annotations

import pyarrow as pa

FILES = pa.schema([("file", pa.string())])
"""A SourceFile in JSON."""

HEARD = pa.schema(
    [("row", pa.string()), ("content_sha256", pa.string()), ("rounds", pa.list_(pa.binary()))]
)
"""The row so far in JSON, and the features of each round that was heard."""

ROWS = pa.schema([("row", pa.string())])
"""The whole row in JSON, with what its making has cost."""

COSTS = ("read_bytes", "hear_s", "classify_s")
"""Fields of a row in JSON that are counted and do not go into the output."""
