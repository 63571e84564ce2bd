"""Online learning rates by hypergradients."""
