"""Other people's learned optimizers, which hold the parameters in their own state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_lab.evaluation.rivals.adapter import as_optax


def test_the_adapter_equals_the_optimizer_it_wraps():
    """Momentum in the style of optimizers that hold the parameters, against Optax's own."""

    def update(state, gradient, loss):
        del loss
        trace = jax.tree.map(lambda m, g: 0.9 * m + g, state["trace"], gradient)
        params = jax.tree.map(lambda p, m: p - 0.1 * m, state["params"], trace)
        return {"params": params, "trace": trace}

    init = lambda params: {"params": params, "trace": jax.tree.map(jnp.zeros_like, params)}
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.float32(0.5)}
    found = {}
    for name, optimizer in {
        "theirs": as_optax(init, update, lambda state: state["params"]),
        "optax": optax.with_extra_args_support(optax.sgd(0.1, momentum=0.9)),
    }.items():
        at, state = params, optimizer.init(params)
        for _ in range(5):
            gradient = jax.tree.map(jnp.sin, at)
            step, state = optimizer.update(gradient, state, at, value=jnp.float32(1.0))
            at = optax.apply_updates(at, step)
        found[name] = at
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found["theirs"], found["optax"]
    )


def test_the_adapter_needs_the_loss():
    optimizer = as_optax(lambda p: p, lambda s, g, loss: s, lambda s: s)
    params = jnp.float32(1.0)
    with pytest.raises(ValueError, match="value="):
        optimizer.update(params, optimizer.init(params), params)
