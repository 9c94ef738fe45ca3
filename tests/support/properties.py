"""Settings of property tests that must stay fast on a machine with other work."""

from __future__ import annotations

from hypothesis import settings

quick = settings(max_examples=25, deadline=None)
"""Few examples, each of which may take as long as the machine lets it."""
