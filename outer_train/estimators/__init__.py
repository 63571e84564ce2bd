"""Gradient estimators for unrolled systems, one algorithm a file."""
