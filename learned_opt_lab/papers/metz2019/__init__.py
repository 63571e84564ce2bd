"""Metz et al. 2019, arXiv 1810.10180."""
