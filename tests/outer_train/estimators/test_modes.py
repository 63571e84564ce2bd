"""Reverse mode, forward mode, finite differences and plain autodiff
of the unroll agree, in 64 bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.hand_designed import hyperparameters
from outer_train import estimators, inner_problem
from outer_train.estimators._truncated_backprop import clipped
from tasks.base import Task, TaskFamily
from tests.support.outer_train.systems import linear_quadratic

NUM_STEPS = 9
NUM_WEIGHTS = 5


def _family():
    """Logistic-like regression whose first input is always zero, as three pixels of digits are."""
    inputs = np.random.default_rng(0).normal(size=(32, NUM_WEIGHTS))
    inputs[:, 0] = 0

    def loss(params, key, batch):
        del key
        return jnp.mean(jnp.log1p(jnp.exp(-(batch @ params["w"])))), {}

    def task(center):
        init = lambda key: {"w": center + jax.random.normal(key, (NUM_WEIGHTS,), center.dtype)}
        sample_batch = lambda data, key, split: data[jax.random.randint(key, (8,), 0, len(data))]
        return Task(init, loss, sample_batch)

    return TaskFamily(lambda key: jnp.zeros(NUM_WEIGHTS, jnp.float64), task, jnp.asarray(inputs))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_forward_equals_reverse_equals_finite_differences(name):
    with jax.enable_x64(True):
        optimizer = getattr(hyperparameters, name)(learning_rate=0.1)
        problem = inner_problem(_family(), optimizer, NUM_STEPS)
        theta = jax.tree.map(lambda x: x.astype(jnp.float64), optimizer.init(jax.random.key(0)))
        key = jax.random.key(1)
        reverse = estimators.truncated_backprop(problem, 2, chunk_size=4)
        forward = estimators.forward_mode(problem, 2)
        run = lambda e: jax.jit(lambda t: e.estimate(t, e.init(theta, key), key, NUM_STEPS)[0])
        by_reverse, by_forward = run(reverse)(theta), run(forward)(theta)
        loss = run(reverse)
        for name in theta:
            np.testing.assert_allclose(
                by_reverse.grad[name], by_forward.grad[name], rtol=0, atol=1e-10
            )
            shifted = [loss(theta | {name: theta[name] + h}).loss for h in (1e-5, -1e-5)]
            np.testing.assert_allclose(
                by_reverse.grad[name], (shifted[0] - shifted[1]) / 2e-5, rtol=0, atol=1e-6
            )
        assert float(by_reverse.grad["log_learning_rate"]) != 0


def test_truncated_backprop_of_a_learned_optimizer_equals_plain_autodiff_of_a_loop():
    with jax.enable_x64(True):
        problem = inner_problem(_family(), learned_opt.mlp(), NUM_STEPS)
        theta = jax.tree.map(
            lambda x: x.astype(jnp.float64), learned_opt.mlp().init(jax.random.key(0))
        )
        estimator = estimators.truncated_backprop(problem, 1, chunk_size=4)
        key = jax.random.key(5)
        state = estimator.init(theta, key)
        estimate = jax.jit(
            lambda theta, num_steps: estimator.estimate(theta, state, key, num_steps)[0]
        )

        def plain(theta, num_steps):
            # The keys as the estimator documents them: of the unroll, of the particle, of the step.
            particle_key = jax.random.fold_in(jax.random.split(key)[0], 0)
            inner, total = jax.tree.map(lambda x: x[0], state.inner), 0.0
            for i in range(num_steps):
                inner, loss = problem.step(
                    theta, inner, jax.random.fold_in(particle_key, i), problem.data
                )
                total = total + loss / num_steps
            return total

        for num_steps in (2, 4, 7):
            found = estimate(theta, jnp.int32(num_steps))
            value, expected = jax.value_and_grad(plain)(theta, num_steps)
            np.testing.assert_allclose(found.loss, value, rtol=1e-12)
            scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
            for a, b in zip(jax.tree.leaves(found.grad), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * scale)
        assert estimate._cache_size() == 1


def test_truncated_backprop_goes_through_a_layer_larger_than_a_block():
    width = 200

    def loss(params, key, batch):
        del key
        return jnp.mean(jnp.square(jnp.tanh(batch @ params["w"]))), {}

    init = lambda key: {"w": jax.random.normal(key, (width, width))}
    task = Task(init, loss, lambda data, key, split: data)
    family = TaskFamily(lambda key: jnp.zeros(()), lambda params: task, jnp.ones((2, width)))
    optimizer = learned_opt.mlp((4,), preset="metz2019")
    estimator = estimators.truncated_backprop(inner_problem(family, optimizer, 2), 1)
    theta, key = optimizer.init(jax.random.key(0)), jax.random.key(1)
    estimate = jax.jit(lambda theta: estimator.estimate(theta, estimator.init(theta, key), key, 2))
    grad = estimate(theta)[0].grad
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(grad))
    assert np.any(grad["layer_1"]["weights"] != 0)


def test_clipped_particles_keep_their_direction():
    theta, key = jnp.asarray([0.3, -0.5, 0.2, 0.4], jnp.float32), jax.random.key(2)
    problem, _ = linear_quadratic(noise=0.0)
    run = lambda n, **options: estimators.truncated_backprop(
        problem, n, max_num_steps=40, **options
    )
    estimate = lambda e, num_steps: e.estimate(theta, e.init(theta, key), key, num_steps)[0].grad
    for num_steps in (3, 40):  # the episode of 12 ends within the second
        whole = estimate(run(1), num_steps)
        length = float(jnp.linalg.norm(whole))
        np.testing.assert_array_equal(estimate(run(1, clip_norm=1.01 * length), num_steps), whole)
        np.testing.assert_allclose(
            estimate(run(1, clip_norm=0.2 * length), num_steps), 0.2 * whole, rtol=1e-5
        )
    with pytest.raises(ValueError, match="clip_norm must be above 0"):
        run(1, clip_norm=0.0)


def test_one_exploding_particle_is_clipped_and_the_others_are_not():
    leaves = (
        np.array([[[3.0, 0.0]], [[3e30, 0.0]], [[0.0, 0.0]]], np.float32),
        np.array([4.0, 4e30, 0.0], np.float32),
    )
    grad, other = clipped(tuple(map(jnp.asarray, leaves)), 2.0, jnp.array([3, 5, 1]))
    np.testing.assert_allclose(grad, [[[3.0, 0.0]], [[6.0, 0.0]], [[0.0, 0.0]]], rtol=1e-6)
    np.testing.assert_allclose(other, [4.0, 8.0, 0.0], rtol=1e-6)


def test_reparameterization_on_a_quadratic_is_the_plain_gradient():
    """Antithetic sides cancel the noise to all orders where the gradient is linear in theta."""
    theta, key = jnp.asarray([0.3, -0.5, 0.2, 0.4], jnp.float32), jax.random.key(2)
    problem, _ = linear_quadratic(noise=0.0)
    rp, plain = (
        estimators.reparameterization(problem, 4, 0.5),
        estimators.truncated_backprop(problem, 1),
    )
    for num_steps in (3, 12):
        one = rp.estimate(theta, rp.init(theta, key), key, num_steps)[0]
        other = plain.estimate(theta, plain.init(theta, key), key, num_steps)[0]
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-4)
