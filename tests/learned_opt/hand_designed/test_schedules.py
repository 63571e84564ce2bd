import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.hand_designed.schedules import (
    constant_schedule,
    decode_pair,
    encode_pair,
    exponential_schedule,
    free_schedule,
    inverse_time_schedule,
)

KEY = jax.random.key(0)


def rates(learned, num_steps, theta=None):
    """alpha_t read off the updates: with gradient 1 the velocity is `v' = mu v - alpha_t`."""
    theta = learned.init(KEY) if theta is None else theta
    transformation = learned.optimizer(theta)
    params = jnp.float32(0.0)
    state = transformation.init(params)
    found, velocity = [], 0.0
    for _ in range(num_steps):
        update, state = transformation.update(jnp.float32(1.0), state, params)
        found.append(0.9 * velocity - float(update))
        velocity = float(update)
    return np.array(found)


def test_pairs_round_trip():
    pair = encode_pair(0.05, 0.9)
    np.testing.assert_allclose(pair.log_effective_rate, np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(pair.log_one_minus_momentum, np.log(0.1), rtol=1e-6)
    np.testing.assert_allclose(decode_pair(pair), (0.05, 0.9), rtol=1e-6)


@pytest.mark.parametrize(
    ("learned", "expected"),
    [
        (constant_schedule(0.2, 0.9), lambda t: 0.2 + 0 * t),
        (inverse_time_schedule(0.2, 0.9, 3.0, time_constant=4.0), lambda t: 0.2 / (1 + t / 4) ** 3),
        (exponential_schedule(0.2, 0.9, 0.5), lambda t: 0.2 * np.exp(-0.5 * t)),
        (free_schedule(4, 0.2, 0.9), lambda t: 0.2 + 0 * t),
    ],
)
def test_rates(learned, expected):
    np.testing.assert_allclose(rates(learned, 6), expected(np.arange(6)), rtol=2e-5)


def test_free_schedule_uses_each_entry_and_then_the_last():
    learned = free_schedule(3, 0.2, 0.9)
    theta = learned.init(KEY)
    factors = jnp.log(jnp.array([1.0, 2.0, 0.5]))
    theta = theta._replace(log_effective_rate=theta.log_effective_rate + factors)
    np.testing.assert_allclose(rates(learned, 5, theta), [0.2, 0.4, 0.1, 0.1, 0.1], rtol=2e-5)


def test_equals_optax_sgd_with_momentum():
    ours, theirs = constant_schedule(0.1, 0.8), optax.sgd(0.1, momentum=0.8)
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
    grads = [jax.tree.map(lambda x, i=i: x * (i + 1), params) for i in range(4)]
    mine = ours.optimizer(ours.init(KEY))
    state, optax_state = mine.init(params), theirs.init(params)
    for grad in grads:
        update, state = mine.update(grad, state, params)
        with jax.numpy_dtype_promotion("standard"):
            expected, optax_state = theirs.update(grad, optax_state, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), update, expected)


@pytest.mark.parametrize("learn_momentum", [False, True])
def test_momentum_is_learned_only_if_asked(learn_momentum):
    learned = constant_schedule(0.1, 0.5, learn_momentum=learn_momentum)

    def end(theta):
        transformation = learned.optimizer(theta)
        x, state = jnp.float32(1.0), transformation.init(jnp.float32(1.0))
        for _ in range(3):
            update, state = transformation.update(2 * x, state, x)
            x = x + update
        return x

    theta = learned.init(KEY)
    slope = jax.grad(end)(theta)
    assert (slope.log_one_minus_momentum != 0) == learn_momentum
    eps = 1e-2
    shifted = [
        end(theta._replace(log_effective_rate=theta.log_effective_rate + s * eps)) for s in (1, -1)
    ]
    np.testing.assert_allclose(
        slope.log_effective_rate, (shifted[0] - shifted[1]) / (2 * eps), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("factory", "kwargs", "name"),
    [
        (constant_schedule, {"learning_rate": 0.0}, "learning_rate"),
        (constant_schedule, {"momentum": 1.0}, "momentum"),
        (inverse_time_schedule, {"decay_exponent": -1.0}, "decay_exponent"),
        (inverse_time_schedule, {"time_constant": 0.0}, "time_constant"),
        (exponential_schedule, {"decay_rate": float("inf")}, "decay_rate"),
        (free_schedule, {"num_steps": 0}, "num_steps"),
    ],
)
def test_bad_input(factory, kwargs, name):
    with pytest.raises(ValueError, match=name):
        factory(**kwargs)
