"""Stage 3: logits to a calibrated prediction. Numpy only."""
