"""Systems whose outer gradients are known in closed form, for the tests of estimators."""

import jax
import jax.numpy as jnp
import numpy as np

from outer_train.problem import UnrolledSystem


def linear_quadratic(num_steps=12, dim=3, num_theta=4, noise=0.3, coupling=1.0, seed=0):
    """s' = A s + coupling * B theta + noise * n, loss |s' - c|^2 / 2;
    windows' gradients are exact in NumPy.
    """
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(dim, dim))
    a = 0.9 * a / np.abs(np.linalg.eigvals(a)).max()
    b, c = rng.normal(size=(dim, num_theta)), rng.normal(size=dim)
    a32, b32, c32 = (jnp.asarray(x, jnp.float32) for x in (a, coupling * b, c))

    def init(theta, key):
        del theta, key
        return jnp.zeros(dim, jnp.float32)

    def step(theta, state, key, data):
        del data
        highest = jax.lax.Precision.HIGHEST
        state = jnp.matmul(a32, state, precision=highest) + jnp.matmul(
            b32, theta, precision=highest
        )
        state = state + noise * jax.random.normal(key, (dim,), jnp.float32)
        return state, jnp.sum(jnp.square(state - c32)) / 2

    return UnrolledSystem(init, step, num_steps), (a, coupling * b, c)


def gradient(matrices, theta, first, last, *, from_start):
    """Gradient of the mean loss over steps first..last-1 of an episode at constant theta,
    NumPy in 64 bit.

    With `from_start` theta's influence counts from the episode's start on, else from step `first`
    on.
    """
    a, b, c = matrices
    state, influence = np.zeros(len(c)), np.zeros_like(b)
    total = np.zeros(b.shape[1])
    for t in range(last):
        if t == first and not from_start:
            influence = np.zeros_like(b)
        state, influence = a @ state + b @ theta, a @ influence + b
        if t >= first:
            total += influence.T @ (state - c)
    return total / (last - first)


def influence_balancing(num_steps=10**6, theta_0=0.5):
    """Influence balancing (Tallec & Ollivier, arXiv 1705.08209): theta* = -1/6."""
    n, positive = 23, 10
    a = np.diag(np.full(n, 0.5)) + np.diag(np.full(n - 1, 0.5), 1)
    c = np.concatenate([np.ones(positive), -np.ones(n - positive)])
    rest = np.linalg.solve(np.eye(n) - a, theta_0 * c)
    a32, c32, rest32 = (jnp.asarray(x, jnp.float32) for x in (a, c, rest))

    def init(theta, key):
        del theta, key
        return rest32

    def step(theta, state, key, data):
        del key, data
        state = jnp.matmul(a32, state, precision=jax.lax.Precision.HIGHEST) + theta * c32
        return state, jnp.square(state[0] - 1) / 2

    return UnrolledSystem(init, step, num_steps)
