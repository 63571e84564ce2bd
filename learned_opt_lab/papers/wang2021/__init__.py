"""Wang et al. 2021, arXiv 2006.16495."""
