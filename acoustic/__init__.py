"""The AcousticSense library: three stages from audio bytes to a calibrated genre."""

__version__ = "0.3.0"
