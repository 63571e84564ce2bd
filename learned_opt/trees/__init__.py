"""Trees of parameters, gradients and averages: what is trained, what mirrors what, what is packed."""
