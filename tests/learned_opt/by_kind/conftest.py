"""An optimizer small enough for Python to step through it."""

import jax
import pytest

import learned_opt


@pytest.fixture
def standard_promotion():
    """Optax's Adam adds floats to integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def opt():
    optimizer = learned_opt.mlp((2,))
    return optimizer.optimizer(
        jax.tree.map(lambda x: 10 * x + 1, optimizer.init(jax.random.key(0)))
    )
