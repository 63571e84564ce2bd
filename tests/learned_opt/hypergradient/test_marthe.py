"""Hypergradients against autodiff over the whole past schedule,
in 64 bits, and Algorithm 1 against NumPy.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.hypergradient._marthe import hd, marthe, rtho
from tests.support.learned_opt.hypergradient_problem import (
    INNERS,
    NUM_STEPS,
    loss_fn,
    make_problem,
    train,
)


def partial_hypergradients(inner, problem, rates):
    """`[t, i]`: dE(w_t) / d(rate i), by reverse mode through the whole training run."""

    def objectives(rates):
        params, batches, valid = problem

        def step(carry, xs):
            params, state = carry
            rate, batch = xs
            objective = loss_fn(params, valid)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = inner(rate).update(jax.grad(loss_fn)(params, batch), state, params)
                return (optax.apply_updates(params, updates), state), objective

        with jax.numpy_dtype_promotion("standard"):
            state = inner(rates[0]).init(params)
        return jax.lax.scan(step, (params, state), (rates, batches))[1]

    return np.asarray(jax.jit(jax.jacrev(objectives))(rates))


@pytest.mark.parametrize("name", INNERS)
def test_hypergradients_are_discounted_sums_over_the_whole_past_schedule(name):
    inner = INNERS[name]
    with jax.enable_x64(True):
        problem = make_problem()
        run = jax.jit(lambda mu: train(marthe(inner, 0.05, 0.02, 0.0, mu), problem)[1])
        for mu in (1.0, 0.7, 0.0):
            states = run(mu)
            rates = states.learning_rate
            partials = (
                partial_hypergradients(inner, problem, rates)
                if mu
                else partials_of_hd(inner, problem, rates)
            )
            steps = np.arange(NUM_STEPS)
            exponents = np.maximum(steps[:, None] - 1 - steps, 0)
            expected = np.sum(np.tril(partials, -1) * float(mu) ** exponents, axis=1)
            np.testing.assert_allclose(states.hypergradient, expected, rtol=1e-9, atol=1e-15)
            assert np.ptp(rates) > 1e-4


def partials_of_hd(inner, problem, rates):
    partials = partial_hypergradients(inner, problem, rates)
    return np.where(np.eye(NUM_STEPS, k=-1, dtype=bool), partials, 0)


def normalized_loss(params, batch, moving=None):
    """A layer with batch normalization: the loss by the batch's own statistics, or by those given;
    and the batch's.
    """
    inputs, targets = batch
    hidden = inputs @ params["weights"]
    own = jnp.stack([hidden.mean(0), hidden.var(0)])
    mean, variance = own if moving is None else moving
    hidden = jnp.tanh((hidden - mean) / jnp.sqrt(variance + 0.1) + params["bias"])
    return jnp.mean((hidden - targets) ** 2), own


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_model_with_a_state_gives_it_beside_the_loss(name):
    """The objective is seen with running averages, through which no derivative is taken."""
    inner, rates = INNERS[name], np.linspace(0.05, 0.08, NUM_STEPS)

    def objectives(rates, problem):
        params, batches, valid = problem

        def step(carry, xs):
            params, moving, state = carry
            rate, batch = xs
            objective = normalized_loss(params, valid, jax.lax.stop_gradient(moving))[0]
            loss = lambda p: normalized_loss(p, batch)
            (_, own), grads = jax.value_and_grad(loss, has_aux=True)(params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = inner(rate).update(grads, state, params)
                params = optax.apply_updates(params, updates)
            return (params, 0.9 * moving + 0.1 * own, state), objective

        with jax.numpy_dtype_promotion("standard"):
            start = (params, jnp.ones((2, 2)), inner(rates[0]).init(params))
        return jax.lax.scan(step, start, (rates, batches))[1]

    def online(problem):
        params, batches, valid = problem
        tx = rtho(inner, 0.05, 0.0)

        def step(carry, xs):
            params, moving, state = carry
            rate, batch = xs
            loss = lambda p: normalized_loss(p, batch)
            (_, own), grads = jax.value_and_grad(loss, has_aux=True)(params)
            objective = lambda p: normalized_loss(p, valid, moving)[0]
            updates, state = tx.update(
                grads,
                state._replace(learning_rate=rate),
                params,
                value_fn=loss,
                objective_grad=jax.grad(objective)(params),
            )
            params = optax.apply_updates(params, updates)
            return (params, 0.9 * moving + 0.1 * own, state), state.hypergradient

        return jax.lax.scan(step, (params, jnp.ones((2, 2)), tx.init(params)), (rates, batches))[1]

    with jax.enable_x64(True):
        problem = make_problem()
        partials = jax.jit(jax.jacrev(objectives))(jnp.asarray(rates), problem)
        found = jax.jit(online)(problem)
    expected = np.sum(np.tril(partials, -1), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    assert np.abs(expected[1:]).min() > 1e-6


def test_adaptive_mu_discounts_by_the_product_of_its_values():
    with jax.enable_x64(True):
        problem, inner = make_problem(), INNERS["sgd"]
        states = jax.jit(lambda: train(marthe(inner, 0.7, 0.02, 0.1), problem)[1])()
        partials = partial_hypergradients(inner, problem, states.learning_rate)
        mu = np.asarray(states.mu)
    for t in range(1, NUM_STEPS):
        expected = sum(np.prod(mu[i + 1 : t]) * partials[t, i] for i in range(t))
        np.testing.assert_allclose(states.hypergradient[t], expected, rtol=1e-9)
    assert mu[0] == 0
    np.testing.assert_allclose(mu[1], 1, rtol=1e-12)
    assert len(set(mu)) == NUM_STEPS - 1


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_mu_zero_is_hd_and_mu_one_is_rtho_exactly(name):
    problem, inner = make_problem(jnp.float32), INNERS[name]
    general = jax.jit(
        lambda mu: train(marthe(inner, 0.05, 0.02, 0.0, mu), problem)[1].learning_rate
    )
    short = jax.jit(lambda: train(hd(inner, 0.05, 0.02), problem)[1].learning_rate)()
    long = jax.jit(lambda: train(rtho(inner, 0.05, 0.02), problem)[1].learning_rate)()
    np.testing.assert_array_equal(general(0.0), short)
    np.testing.assert_array_equal(general(1.0), long)
    assert np.abs(short - long).max() > 1e-5


def test_hd_of_sgd_is_minus_the_product_of_successive_gradients():
    with jax.enable_x64(True):
        params, (inputs, targets), _ = make_problem()
        tx, previous = hd(optax.sgd, 0.1, 0.05), None
        state = tx.init(params)
        for batch in zip(inputs, targets, strict=True):
            value_fn = functools.partial(loss_fn, batch=batch)
            grads = jax.grad(value_fn)(params)
            updates, state = tx.update(grads, state, params, value_fn=value_fn)
            if previous is not None:
                expected = -sum(
                    np.vdot(a, b)
                    for a, b in zip(*map(jax.tree.leaves, (previous, grads)), strict=True)
                )
                np.testing.assert_allclose(state.hypergradient, expected, rtol=1e-12)
            params, previous = optax.apply_updates(params, updates), grads


def algorithm_1(curvature, noise, start, rate, meta_step):
    """MARTHE's Algorithm 1 in NumPy for SGD on 1/2 w^T H w + noise_t .
    w, with the plus in the update of beta.

    Rates, mus, betas and hypergradients, `[4, num_steps]`.
    """
    weights, tangent, partial = start, np.zeros_like(start), np.zeros_like(start)
    mu, horizon, last_delta, beta, rows = 0.0, 0.0, 0.0, 0.0, []
    for t, slope in enumerate(noise):
        grads = curvature @ weights + slope
        delta, one_step = tangent @ grads, partial @ grads
        beta = max(beta + meta_step * delta * last_delta, 0)
        if t > 0:
            rate = max(rate - beta * delta, 0)
            q = np.clip(delta / one_step, 0, 1)
            mu, horizon = q ** (1 / (horizon + 1)), mu * (1 + horizon)
        tangent = mu * (tangent - rate * curvature @ tangent) - grads
        weights, partial, last_delta = weights - rate * grads, -grads, delta
        rows.append((rate, mu, beta, delta))
    return np.array(rows).T


def test_marthe_is_algorithm_1():
    rng = np.random.default_rng(1)
    factor, noise, start = rng.normal(size=(4, 4)), rng.normal(size=(40, 4)), rng.normal(size=4)
    curvature = factor @ factor.T / 4
    expected = algorithm_1(curvature, noise, start, 0.2, 1e-3)
    with jax.enable_x64(True):
        tx = marthe(optax.sgd, 0.2, meta_step=1e-3)

        def step(carry, slope):
            weights, state = carry
            value_fn = lambda w: 0.5 * w @ jnp.asarray(curvature) @ w + slope @ w
            updates, state = tx.update(
                jax.grad(value_fn)(weights), state, weights, value_fn=value_fn
            )
            return (weights + updates, state), state

        carry = (jnp.asarray(start), tx.init(jnp.asarray(start)))
        states = jax.lax.scan(step, carry, jnp.asarray(noise))[1]
    actual = (states.learning_rate, states.mu, states.hyper_learning_rate, states.hypergradient)
    np.testing.assert_allclose(np.array(actual), expected, rtol=1e-8, atol=1e-12)
    assert np.ptp(expected[0]) > 1e-2
    assert len(set(expected[1])) > 5
    assert expected[2].max() > 0
