"""The recipe that makes a checkpoint from labelled log-mel clips."""
