"""Short truncations choose learning rates that are too small (arXiv 1810.10180, figure 3)."""
