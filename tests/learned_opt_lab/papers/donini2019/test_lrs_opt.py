"""LRS-OPT: its hypergradient against jax.grad and finite differences,
and that it lowers the objective.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_lab.papers.donini2019 import lrs_opt
from tasks.base import Task

NUM_STEPS = 7


def small_task():
    """A nonlinear regression on minibatches of 4 out of 30 examples; the data is its argument."""

    def init(key):
        return {"weights": 0.5 * jax.random.normal(key, (3, 2)), "bias": jnp.zeros(2)}

    def loss(params, key, batch):
        del key
        return jnp.mean(
            (jnp.tanh(batch[0] @ params["weights"] + params["bias"]) - batch[1]) ** 2
        ), {}

    def sample_batch(data, key, split):
        del split
        rows = jax.random.randint(key, (4,), 0, 20)
        return jax.tree.map(lambda x: x[rows], data)

    return Task(init, loss, sample_batch)


def setup():
    rng = np.random.default_rng(0)
    inputs, teacher = rng.normal(size=(30, 3)), rng.normal(size=(3, 2))
    data = jnp.asarray(inputs), jnp.asarray(np.tanh(inputs @ teacher))
    task = small_task()
    objective = lambda params, data: task.loss(params, None, jax.tree.map(lambda x: x[20:], data))[
        0
    ]
    keys = jax.random.split(jax.random.key(1), 2)
    params = jax.vmap(task.init)(keys)
    rates = jnp.asarray(rng.uniform(0.1, 0.6, (2, NUM_STEPS)))
    return task, objective, data, params, keys, rates


def plain_objective(task, objective, data, params, key, rates):
    """The same training run as a Python loop of `params - rate * grad`."""
    for i, rate in enumerate(rates):
        key_batch, key_loss = jax.random.split(jax.random.fold_in(key, i))
        batch = task.sample_batch(data, key_batch, "train")
        grads = jax.grad(lambda p, k=key_loss, b=batch: task.loss(p, k, b)[0])(params)
        params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, grads)
    return objective(params, data)


def test_hypergradient_is_jax_grad_of_the_unrolled_run_and_finite_differences():
    with jax.enable_x64(True):
        task, objective, data, params, keys, rates = setup()
        schedule = lrs_opt.rate_schedule(NUM_STEPS, 0.1)
        trained = lrs_opt.training(task, objective, schedule, NUM_STEPS, chunk_size=3)
        final = jax.jit(trained.final_objective)
        values, pull_back = jax.vjp(lambda r: final(r, params, keys, data), rates)
        grads = pull_back(jnp.ones_like(values))[0]
        plain = jax.jit(
            jax.value_and_grad(lambda r, p, key: plain_objective(task, objective, data, p, key, r))
        )
        for run in range(2):
            value, grad = plain(
                rates[run], jax.tree.map(lambda x, run=run: x[run], params), keys[run]
            )
            np.testing.assert_allclose(values[run], value, rtol=1e-12)
            np.testing.assert_allclose(grads[run], grad, rtol=1e-9, atol=1e-14)
        for step in (0, NUM_STEPS - 1):
            shift = jnp.zeros_like(rates).at[:, step].set(1e-6)
            difference = final(rates + shift, params, keys, data) - final(
                rates - shift, params, keys, data
            )
            np.testing.assert_allclose(grads[:, step], difference / 2e-6, rtol=1e-6, atol=1e-10)
        assert np.abs(grads).min() > 1e-5


def test_it_lowers_the_objective_and_keeps_rates_from_falling_below_zero():
    task, objective, data, params, keys, _ = setup()
    data, params = jax.tree.map(lambda x: x.astype(jnp.float32), (data, params))
    schedule = lrs_opt.rate_schedule(NUM_STEPS, 0.02)
    trained = lrs_opt.training(task, objective, schedule, NUM_STEPS)
    found = lrs_opt.optimize_schedules(trained, schedule, params, data, jax.random.key(2), 60, 0.1)
    start = np.mean([trained.final_objective(jnp.full((2, NUM_STEPS), 0.02), params, keys, data)])
    end = np.mean([trained.final_objective(found.rates, params, keys, data)])
    assert end < 0.9 * start
    assert found.rates.min() >= 0
    assert found.objectives.shape == (60, 2)


def test_every_outer_iteration_draws_fresh_minibatches():
    """At an outer rate of zero the schedule stands still,
    so only the minibatches can change the objective.
    """
    task, objective, data, params, _, _ = setup()
    data, params = jax.tree.map(lambda x: x.astype(jnp.float32), (data, params))
    schedule = lrs_opt.rate_schedule(NUM_STEPS, 0.1)
    trained = lrs_opt.training(task, objective, schedule, NUM_STEPS)
    found = lrs_opt.optimize_schedules(trained, schedule, params, data, jax.random.key(2), 5, 0.0)
    np.testing.assert_array_equal(found.rates, jnp.full((2, NUM_STEPS), 0.1, jnp.float32))
    assert len(np.unique(found.objectives)) == 10


def test_rate_schedule_is_sgd_at_the_rates_of_theta():
    schedule = lrs_opt.rate_schedule(3, 0.5)
    np.testing.assert_array_equal(schedule.init(jax.random.key(0)), [0.5, 0.5, 0.5])
    optimizer = schedule.optimizer(jnp.array([0.1, 0.2, 0.3]))
    params, state, seen = jnp.ones(1), optimizer.init(jnp.ones(1)), []
    for _ in range(4):
        updates, state = optimizer.update(jnp.ones(1), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(updates[0]))
    np.testing.assert_allclose(seen, [-0.1, -0.2, -0.3, -0.3], rtol=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        lrs_opt.rate_schedule(0, 0.1)
    with pytest.raises(ValueError, match="learning_rate must be >= 0, got -1"):
        lrs_opt.rate_schedule(3, -1)
    with pytest.raises(ValueError, match="num_iterations must be at least 1, got 0"):
        lrs_opt.optimize_schedules(None, None, None, None, None, 0, 0.1)
