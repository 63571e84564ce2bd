"""The search for the largest hyper-learning rate that does not diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.hypergradient._marthe import rtho
from learned_opt.hypergradient.search import find_hyper_learning_rate, loss_diverged


def test_divides_by_ten_until_the_run_does_not_diverge():
    run = lambda value: np.array([1.0, np.inf if value > 0.02 else 0.5])
    search = find_hyper_learning_rate(run, start=10.0)
    assert search.value == pytest.approx(0.01)
    assert search.rejected == (10.0, 1.0, 0.1)
    np.testing.assert_array_equal(search.losses, [1.0, 0.5])


def test_finds_the_stable_value_of_a_real_run():
    @jax.jit
    def run(beta):
        value_fn = lambda w: 0.5 * w**2
        tx = rtho(optax.sgd, 0.1, beta)

        def step(carry, _):
            weights, state = carry
            loss, grads = jax.value_and_grad(value_fn)(weights)
            updates, state = tx.update(grads, state, weights, value_fn=value_fn)
            return (weights + updates, state), loss

        return jax.lax.scan(step, (jnp.float32(1), tx.init(jnp.float32(1))), length=100)[1]

    search = find_hyper_learning_rate(lambda value: run(jnp.float32(value)), start=1e3)
    losses = {value: run(jnp.float32(value)) for value in (*search.rejected, search.value)}
    assert [loss_diverged(x) for x in losses.values()] == [True] * len(search.rejected) + [False]
    assert len(search.rejected) >= 1
    assert search.losses[-1] < 1e-3


def test_a_loss_that_ends_above_its_start_has_diverged():
    assert loss_diverged(np.array([1.0] + [0.5] * 8 + [1.1]))
    assert loss_diverged(np.array([1.0, np.nan, 0.5]))
    assert not loss_diverged(np.array([1.0, 5.0, 0.9]))


def test_bad_arguments_and_endless_divergence():
    always = lambda value: np.array([1.0, np.inf])
    with pytest.raises(RuntimeError, match="diverged at every value from 1 down to"):
        find_hyper_learning_rate(always, max_trials=3)
    with pytest.raises(ValueError, match="start must be a finite number > 0, got 0"):
        find_hyper_learning_rate(always, start=0)
    with pytest.raises(ValueError, match="factor must be > 1, got 1"):
        find_hyper_learning_rate(always, factor=1)
    with pytest.raises(ValueError, match="max_trials must be >= 1, got 0"):
        find_hyper_learning_rate(always, max_trials=0)
    with pytest.raises(ValueError, match=r"got shape \(\)"):
        find_hyper_learning_rate(lambda value: 1.0)
