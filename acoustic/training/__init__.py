"""Training of a checkpoint from labelled log-mel clips."""
