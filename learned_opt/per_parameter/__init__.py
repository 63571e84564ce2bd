"""The per-parameter MLP optimizers: inputs, network, outer parameters, and how an update goes over a tree."""
