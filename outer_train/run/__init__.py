"""One run on disk: its directory, loop, checkpoints and metrics."""
