"""MPEG audio frames: true lengths and byte ranges of MP3 files."""
