"""Outer parameters and inputs for the tests of the MLP optimizer."""

import jax

LOG_FEATURES = (
    "parameter",
    "adam_momentum",
    "log_parameter",
    "log_adam_gradient",
    "log_adam_momentum",
)


def loud_theta(optimizer, seed=0):
    """Weights large enough that a wrong input shows."""
    return jax.tree.map(lambda x: 30 * x + 1.0, optimizer.init(jax.random.key(seed)))
