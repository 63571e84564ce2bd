"""Short-horizon bias on the noisy quadratic (arXiv 1803.02021, section 2)."""
