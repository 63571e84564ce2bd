"""Short-horizon bias by stochastic meta-descent (arXiv 1803.02021, section 3)."""
