"""No gradient, no step; no overflow: what holds for every hand-designed optimizer."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.hand_designed import hyperparameters, moments
from tests.support.learned_opt.hand_designed import (
    LEARNED,
    by_kind,
    every_optimizer,
    finite,
    make_params,
    step,
    transformation,
)


@every_optimizer
def test_without_a_gradient_no_bit_moves_in_any_type(name):
    tx = transformation(name)
    compiled = jax.jit(functools.partial(step, tx))
    for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
        start = params = make_params(dtype)
        state = tx.init(params)
        for _ in range(3):
            _, params, state = compiled(params, state)
        np.testing.assert_array_equal(params["dead"], start["dead"])
        np.testing.assert_array_equal(params["mixed"][1:], start["mixed"][1:])
        if dtype == jnp.float32:
            assert np.all(params["live"] != start["live"])
            assert params["mixed"][0] != start["mixed"][0]
        assert params["live"].dtype == dtype
        assert finite((params, state))


@by_kind([*LEARNED, "hooks"])
def test_after_one_huge_gradient_nothing_drifts(name):
    tx = transformation(name)
    zero = jax.tree.map(jnp.zeros_like, make_params())
    huge = {**zero, "live": jnp.array([1e20, -1e20, 3e38])}

    @jax.jit
    def run(params):
        def body(carry, t):
            grads = jax.tree.map(lambda h: jnp.where(t == 0, h, 0), huge)
            carry = step(tx, *carry, grads)[1:]
            return carry, carry[0]

        return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(1000))

    (_, state), path = run(make_params())
    assert finite((path, state))
    np.testing.assert_array_equal(path["live"][500], path["live"][-1])
    np.testing.assert_array_equal(path["dead"][-1], make_params()["dead"])
    if name in ("adam", "adam8", "hooks"):
        first = make_params()["live"] - 1e-3 * np.array([1, -1, 1])
        np.testing.assert_allclose(path["live"][0], first, rtol=1e-6)
        assert np.abs(path["live"][-1] - first).max() < 0.05


@by_kind(LEARNED)
@pytest.mark.parametrize("value", [100.0, -100.0])
def test_no_theta_moves_what_has_no_gradient(name, value):
    theta = jax.tree.map(lambda x: jnp.full_like(x, value), LEARNED[name]().init(jax.random.key(0)))
    tx, params = LEARNED[name]().optimizer(theta), make_params()
    zero = jax.tree.map(jnp.zeros_like, params)
    compiled = jax.jit(functools.partial(step, tx))
    _, moved, state = compiled(params, tx.init(params), zero)
    _, moved, state = compiled(moved, state, zero)
    jax.tree.map(np.testing.assert_array_equal, moved, params)
    assert finite(state)


@by_kind(LEARNED)
def test_derivatives_at_a_zero_gradient_are_finite(name):
    """Of three steps, with the smallest eps and a decay of 0 too."""
    extremes = {"adam": {"eps": 1e-20, "b1": 0.0, "b2": 0.0}, "adam8": {"eps": 1e-30, "b2": 0.0}}
    learned = LEARNED[name](**extremes.get(name, {}))

    def end(theta, params):
        tx = learned.optimizer(theta)
        state = tx.init(params)
        for _ in range(3):
            _, params, state = step(tx, params, state)
        return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))

    @jax.jit
    def both(theta, params):
        ones = jax.tree.map(jnp.ones_like, theta)
        forward = jax.jvp(lambda theta: end(theta, params), (theta,), (ones,))[1]
        return forward, jax.grad(end, argnums=(0, 1))(theta, params)

    forward, reverse = both(learned.init(jax.random.key(0)), make_params())
    assert finite((forward, reverse))
    np.testing.assert_allclose(
        forward, sum(np.sum(x) for x in jax.tree.leaves(reverse[0])), rtol=1e-3, atol=1e-6
    )
    assert forward != 0


def test_the_derivative_of_adams_quotient_is_right():
    """Against 64 bits, where squares do not underflow."""
    point = (0.3, 0.2, math.log(0.4))
    plain = lambda m, v, log_eps: m / jnp.sqrt(v + jnp.exp(2 * log_eps))
    with jax.enable_x64(True):
        want = jax.grad(plain, argnums=(0, 1, 2))(*map(jnp.float64, point))
        got = jax.grad(moments.over_root, argnums=(0, 1, 2))(*map(jnp.float64, point))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    value = moments.over_root(jnp.float32(1e-20), jnp.float32(0), jnp.float32(math.log(1e-25)))
    np.testing.assert_allclose(value, 1e5, rtol=1e-4)


@every_optimizer
def test_the_last_count_of_an_int32_does_not_turn_negative(name):
    tx, params = transformation(name), make_params()
    last = lambda x: jnp.full_like(x, 2**31 - 1) if x.dtype == jnp.int32 else x
    state = jax.tree.map(last, tx.init(params))
    _, params, state = jax.jit(functools.partial(step, tx))(params, state)
    assert finite((params, state))
    assert all(np.all(x >= 0) for x in jax.tree.leaves(state) if x.dtype == jnp.int32)


def test_a_decay_nearly_one_and_a_tiny_eps_still_make_adams_steps():
    """1 - b2 = 1e-10 is 0 in float32 if it is formed as 1 - b2, and 1e-20 squared is 0."""
    learned = hyperparameters.adam(0.1, 1 - 1e-9, 1 - 1e-10, 1e-20)
    tx, params = learned.optimizer(learned.init(jax.random.key(0))), make_params()
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["live"], -0.1, rtol=1e-5)


def test_penalties_that_are_given_fall_on_every_parameter():
    """As `optax.add_decayed_weights` before Adam;
    those of the start spare what has no gradient.
    """
    zero = jax.tree.map(jnp.zeros_like, make_params())
    for kwargs, moves in (({}, False), ({"l2": 0.1}, True), ({"l1": 0.1}, True)):
        learned = hyperparameters.adam8(**kwargs)
        tx = learned.optimizer(learned.init(jax.random.key(0)))
        updates, _ = tx.update(zero, tx.init(make_params()), make_params())
        np.testing.assert_allclose(updates["live"], -1e-3 * moves * np.array([1, -1, 1]), rtol=1e-4)
        np.testing.assert_array_equal(updates["dead"][1, 0], 0)


@pytest.mark.parametrize("name", ["adam8", "rmsprop8", "momentum6"])
def test_a_weight_that_is_frozen_half_way_rests(name):
    """The penalties of the start do not pull it to zero, whatever gradients it had before."""
    learned = LEARNED[name](**{"adam8": {"b2": 0.9}}.get(name, {}))  # of a short memory
    tx = learned.optimizer(learned.init(jax.random.key(0)))
    params, steps = {"w": jnp.array([0.5, -2.0])}, 3000

    @jax.jit
    def run(params):
        def body(carry, t):
            params, state = carry
            grads = {"w": jnp.where(t < 50, 0.1 * jnp.cos(t * params["w"]), 0.0)}
            updates, state = tx.update(grads, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), params["w"]

        return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(steps, dtype=jnp.float32))[
            1
        ]

    path = run(params)
    np.testing.assert_array_equal(path[-1], path[steps // 2])
    assert np.all(path[-1] != params["w"])
