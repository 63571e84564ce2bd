"""Fresh thetas that make Adam's steps, at a constant rate or one of tensor and time, against NumPy and Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from tests.support.learned_opt.thetas import LOG_FEATURES


@pytest.mark.parametrize("hidden_sizes", [(2,), (8,), (4, 3)])
def test_fresh_theta_makes_adams_steps(hidden_sizes):
    optimizer = learned_opt.mlp(
        hidden_sizes, (0.5, 0.9, 0.99), step_multiplier=0.02, output_init_scale=0.0, adam_learning_rate=0.01
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
        adam_learning_rate=0.01,
        adam_exponents=exponents,
        adam_time_exponents=time_exponents,
        adam_weight_decay=0.03,
    )
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = {"b": jnp.zeros(3), "w": jnp.asarray(rng.normal(size=(4, 5)) * 0.2, jnp.float32)}
    moments = {name: (np.zeros((2, p.size)), np.zeros(p.size)) for name, p in params.items()}
    state = opt.init(params)
    for t in range(3):
        grads = {name: jnp.asarray(rng.normal(size=p.shape) * 10.0**-t, jnp.float32) for name, p in params.items()}
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
            np.testing.assert_allclose(np.ravel(updates[name]), -rate * direction, rtol=1e-4, atol=1e-9)
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adam_exponents": (1.0,), "adam_learning_rate": 0.1}, r"adam_exponents: got \(1.0,\), allowed are 0"),
        ({"adam_time_exponents": (0.1,) * 9}, "adam_time_exponents: needs adam_learning_rate"),
        ({"adam_weight_decay": 0.1}, "adam_weight_decay: needs adam_learning_rate"),
        ({"adam_learning_rate": 0.1, "adam_weight_decay": float("inf")}, "adam_weight_decay: got inf"),
        (
            {"adam_learning_rate": 0.1, "adam_time_exponents": (0.1,) * 9, "hidden_sizes": (3,)},
            "hidden_sizes of at least 4",
        ),
        (
            {"adam_learning_rate": 0.1, "adam_time_exponents": (0.1,) * 9, "exp_multiplier": 0.0},
            "exp_multiplier other than 0",
        ),
        ({"adam_learning_rate": -1.0}, "adam_learning_rate: got -1.0"),
        ({"adam_learning_rate": 0.1, "hidden_sizes": (1,)}, r"hidden_sizes of at least 2, got \(1,\)"),
        ({"adam_learning_rate": 0.1, "features": ("gradient",)}, "needs the feature 'adam_momentum'"),
    ],
)
def test_what_cannot_start_as_adam_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.mlp(**arguments)
