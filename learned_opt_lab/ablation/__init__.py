"""Ablations: outer-training without one part at a time."""
