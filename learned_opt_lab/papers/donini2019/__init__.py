"""Donini et al. 2019, arXiv 1910.08525."""
