"""A small nonlinear regression and inner optimizers, for the tests of hypergradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

NUM_STEPS = 7
INNERS = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": functools.partial(optax.adamw, weight_decay=0.1),
    "chain": lambda rate: optax.chain(
        optax.clip_by_global_norm(0.5), optax.sgd(rate, momentum=0.8, nesterov=True)
    ),
}


def make_problem(dtype=jnp.float64, zero_column=False):
    """A small nonlinear regression: start, batches with a leading step axis, a validation batch."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(NUM_STEPS + 1, 8, 3)), rng.normal(size=(NUM_STEPS + 1, 8, 2))
    if zero_column:
        inputs[..., 0] = 0
    params = {"weights": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    to_array = functools.partial(jnp.asarray, dtype=dtype)
    batches = (to_array(inputs[:-1]), to_array(targets[:-1]))
    return jax.tree.map(to_array, params), batches, (to_array(inputs[-1]), to_array(targets[-1]))


def loss_fn(params, batch):
    inputs, targets = batch
    return jnp.mean((jnp.tanh(inputs @ params["weights"] + params["bias"]) - targets) ** 2)


def train(tx, problem, with_objective=True):
    """Runs `tx` under scan; every state it leaves behind,
    with a leading step axis, and the last parameters.
    """
    params, batches, valid = problem

    def step(carry, batch):
        params, state = carry
        value_fn = lambda p: loss_fn(p, batch)
        grads = jax.grad(value_fn)(params)
        objective_grad = jax.grad(loss_fn)(params, valid) if with_objective else None
        updates, state = tx.update(
            grads, state, params, value_fn=value_fn, objective_grad=objective_grad
        )
        return (optax.apply_updates(params, updates), state), state

    (params, _), states = jax.lax.scan(step, (params, tx.init(params)), batches)
    return params, states
