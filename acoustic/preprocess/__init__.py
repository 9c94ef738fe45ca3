"""Stage 1: audio bytes to log-mel windows. Imports neither torch nor ray."""
