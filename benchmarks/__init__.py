"""Measurement scripts; the last line that each script prints is one JSON document."""
