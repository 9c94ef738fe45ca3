"""What is fitted on held-out tracks: calibration, review limits, references, rules."""
