"""Stage 2: log-mel windows to logits. The only stage that imports torch."""
