"""Fresh thetas that make Adam's steps, at a constant rate or one of tensor and time,
against NumPy and Optax.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt import AdamStart
from tests.support.learned_opt.thetas import LOG_FEATURES


@pytest.mark.parametrize("hidden_sizes", [(2,), (8,), (4, 3)])
def test_fresh_theta_makes_adams_steps(hidden_sizes):
    start = AdamStart(learning_rate=0.01)
    optimizer = learned_opt.mlp(
        hidden_sizes, (0.5, 0.9, 0.99), step_multiplier=0.02, output_init_scale=0.0, start=start
    )
    opts = [optimizer.optimizer(optimizer.init(jax.random.key(0))), optax.adam(0.01)]
    params = [{"w": jax.random.normal(jax.random.key(1), (3, 4)), "b": jnp.ones(4)}] * 2
    states = [opt.init(params[0]) for opt in opts]
    for step in range(5):
        for i, opt in enumerate(opts):
            grads = jax.tree.map(lambda w, step=step: jnp.sin(3.0 * w + step), params[i])
            with jax.numpy_dtype_promotion("standard"):  # for Optax's Adam
                updates, states[i] = opt.update(grads, states[i], params[i])
            params[i] = optax.apply_updates(params[i], updates)
    jax.tree.map(lambda ours, adams: np.testing.assert_allclose(ours, adams, rtol=1e-5), *params)


def log_rms(x):
    return 0.5 * np.log10(1e-4 + np.mean(np.square(x)))


def test_fresh_theta_makes_adams_steps_at_a_rate_of_tensor_and_time():
    decays, timescales = np.array([0.5, 0.9]), (4.0, 40.0)
    exponents, time_exponents = (0.5, 0.3, -0.2, 0.1), (-0.3, 0.2)
    optimizer = learned_opt.mlp(
        (6,),
        tuple(decays.tolist()),
        timescales=timescales,
        features=LOG_FEATURES,
        exp_multiplier=0.5,
        output_init_scale=0.0,
        start=AdamStart(
            learning_rate=0.01,
            exponents=exponents,
            time_exponents=time_exponents,
            weight_decay=0.03,
        ),
    )
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = {"b": jnp.zeros(3), "w": jnp.asarray(rng.normal(size=(4, 5)) * 0.2, jnp.float32)}
    moments = {name: (np.zeros((2, p.size)), np.zeros(p.size)) for name, p in params.items()}
    state = opt.init(params)
    for t in range(3):
        grads = {
            name: jnp.asarray(rng.normal(size=p.shape) * 10.0**-t, jnp.float32)
            for name, p in params.items()
        }
        updates, state = jax.jit(opt.update)(grads, state, params)
        for name, p in params.items():
            g, w = np.asarray(grads[name]).ravel(), np.asarray(p).ravel()
            m, v = moments[name]
            m, v = decays[:, None] * m + (1 - decays[:, None]) * g, 0.999 * v + 0.001 * g**2
            moments[name] = m, v
            scale = 1 / np.sqrt(v / (1 - 0.999 ** (t + 1)) + 1e-12)
            unbiased = m / (1 - decays ** (t + 1))[:, None] * scale
            logs = [log_rms(w), log_rms(g * scale), *map(log_rms, unbiased)]
            rate = 0.01 * 10 ** np.dot(exponents, logs)
            rate *= np.exp(np.dot(time_exponents, np.tanh(t / np.array(timescales) - 1)))
            direction = unbiased[1] + 0.03 * w / np.sqrt(1e-5 + np.mean(w**2))
            np.testing.assert_allclose(
                np.ravel(updates[name]), -rate * direction, rtol=1e-4, atol=1e-9
            )
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    ("start", "others", "message"),
    [
        ({"exponents": (1.0,)}, {}, r"start.exponents: got \(1.0,\), allowed are 0 finite numbers"),
        (
            {"time_exponents": (0.1,)},
            {},
            r"start.time_exponents: got \(0.1,\), allowed are 9 finite numbers",
        ),
        (
            {"weight_decay": 0.1},
            {"features": ("adam_momentum",)},
            "start.weight_decay: got 0.1, needs the feature",
        ),
        (
            {"time_exponents": (0.1,) * 9},
            {"hidden_sizes": (3,)},
            r"hidden_sizes of at least 4, got \(3,\)",
        ),
        (
            {"time_exponents": (0.1,) * 9},
            {"exp_multiplier": 0.0},
            "start.time_exponents: needs an exp_multiplier other",
        ),
        ({}, {"hidden_sizes": (1,)}, r"start: needs hidden_sizes of at least 2, got \(1,\)"),
        ({}, {"features": ("gradient",)}, "start: needs the feature 'adam_momentum'"),
        ({}, {"momentum_decays": ()}, "a momentum decay"),
        ({}, {"step_multiplier": 0.0}, "a step_multiplier"),
    ],
)
def test_what_cannot_start_as_adam_is_named(start, others, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.mlp(start=AdamStart(**{"learning_rate": 0.1} | start), **others)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": -1.0}, "start.learning_rate: got -1.0, allowed are positive numbers"),
        ({"learning_rate": 0}, "start.learning_rate: got 0.0, allowed are positive numbers"),
        ({"learning_rate": None}, "start.learning_rate: got None, allowed are finite numbers"),
        ({"learning_rate": True}, "start.learning_rate: got True"),
        ({"learning_rate": "0.1"}, "start.learning_rate: got '0.1'"),
        ({"learning_rate": 0.1, "weight_decay": float("inf")}, "start.weight_decay: got inf"),
        (
            {"learning_rate": 0.1, "exponents": 0.5},
            "start.exponents: got 0.5, allowed are sequences",
        ),
        (
            {"learning_rate": 0.1, "time_exponents": "12"},
            "start.time_exponents: got '12', allowed are sequences",
        ),
        (
            {"learning_rate": 0.1, "time_exponents": (float("nan"),)},
            "start.time_exponents: got nan",
        ),
        ({"learning_rate": 0.1, "exponents": [[1.0]]}, r"start.exponents: got \[1.0\]"),
    ],
)
def test_bad_values_of_a_start(fields, message):
    with pytest.raises(ValueError, match=message):
        AdamStart(**fields)
    with pytest.raises(ValueError, match=message):
        learned_opt.mlp(start=fields)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (0.1, "start: got 0.1, allowed are None, an AdamStart and a dict"),
        (
            {"rate": 0.1},
            "start: got a field 'rate', allowed are learning_rate, exponents, time_exponents, "
            "weight_decay",
        ),
        ({"weight_decay": 0.1}, "start.learning_rate: got None"),
    ],
)
def test_what_is_no_start(start, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.mlp(start=start)


def test_a_dict_means_the_same():
    fields = {"learning_rate": 1, "time_exponents": [0.1] * 9}
    start = AdamStart(1.0, time_exponents=(0.1,) * 9)
    assert AdamStart(**fields) == start
    assert hash(AdamStart(**fields)) == hash(start)
    thetas = [learned_opt.mlp(start=each).init(jax.random.key(0)) for each in (fields, start)]
    jax.tree.map(np.testing.assert_array_equal, *thetas)
