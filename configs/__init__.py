"""One outer-training run a file: frozen dataclasses, no logic."""
