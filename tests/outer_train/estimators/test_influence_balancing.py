"""Influence balancing (arXiv 1705.08209):
theta* = -1/6, and the one-step truncated gradient points away from it.
"""

import jax
import jax.numpy as jnp
import pytest

from outer_train import estimators
from tests.support.outer_train.systems import influence_balancing

THETA_0 = 0.5


def _descend(estimator, num_outer_steps, rate, num_steps=1):
    """Gradient descent with a rate that falls as 1 / (1 + t / 100); the mean of the last tenth."""

    def outer(carry, i):
        theta, state = carry
        result, state = estimator.estimate(
            theta, state, jax.random.fold_in(jax.random.key(1), i), num_steps
        )
        theta = theta - rate / (1 + i.astype(jnp.float32) / 100) * result.grad
        return (theta, state), theta

    theta = jnp.float32(THETA_0)
    state = estimator.init(theta, jax.random.key(0))
    _, thetas = jax.jit(lambda carry: jax.lax.scan(outer, carry, jnp.arange(num_outer_steps)))(
        (theta, state)
    )
    return float(thetas[-num_outer_steps // 10 :].mean())


@pytest.mark.parametrize(
    ("make", "num_outer_steps", "rate"),
    [
        (lambda: estimators.persistent_es(influence_balancing(), 1000, 0.1), 4000, 1e-3),
        (lambda: estimators.noise_reuse_es(influence_balancing(), 1000, 0.1), 4000, 1e-3),
        (lambda: estimators.full_es(influence_balancing(200), 8, 0.1, objective="last"), 300, 1e-2),
        (lambda: estimators.forward_mode(influence_balancing(), 1), 3000, 1e-3),
    ],
    ids=["persistent_es", "noise_reuse_es", "full_es", "forward_mode"],
)
def test_unbiased_estimators_reach_the_optimum(make, num_outer_steps, rate):
    assert abs(_descend(make(), num_outer_steps, rate) + 1 / 6) < 0.01


def test_one_step_truncation_moves_away():
    moved = _descend(estimators.truncated_backprop(influence_balancing(), 1), 300, 1e-3)
    assert moved > THETA_0 + 0.01
