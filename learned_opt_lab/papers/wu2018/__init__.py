"""Wu et al., ICLR 2018, arXiv 1803.02021."""
