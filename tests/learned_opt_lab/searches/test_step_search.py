"""A candidate of the search over a theta's step changes the rate
and the direction by what its numbers say.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from configs import base
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.optimizer import build_optimizer
from learned_opt_lab.searches import step_search

OPTIMIZER = base.Mlp(
    hidden_sizes=(8,),
    momentum_decays=(0.9,),
    timescales=(10.0,),
    features=("parameter", "adam_gradient", "adam_momentum", "log_parameter", "log_adam_gradient"),
    step_multiplier=0.01,
    exp_multiplier=0.5,
    output_init_scale=0.0,
    start=base.StartAsAdam(learning_rate=1e-3, exponents=(0.5, 0.0), time_exponents=(0.1,)),
)
PARAMETER, GRADIENT, MOMENTUM, LOG, LOG_GRADIENT, TIME, BIAS, LOG_SLOPE, GATE = range(9)
NUMBERS = 12
"""The above and the gate's weights of LOG, LOG_GRADIENT and TIME."""
PARAMS = np.array([0.3, -0.2, 0.1])
NORMALIZED = PARAMS / np.sqrt(1e-5 + np.mean(PARAMS**2))


def steps(numbers):
    """The first two updates of a fresh theta with these numbers."""
    optimizer = build_optimizer(OPTIMIZER)[0]
    settings = step_search.searched_settings(OPTIMIZER)
    theta = step_search.moved(
        settings, optimizer.init(jax.random.key(0)), np.asarray(numbers, float)
    )
    opt = optimizer.optimizer(theta)
    params, updates = jnp.asarray(PARAMS, jnp.float32), []
    state = opt.init(params)
    for grads in (jnp.array([1.0, -2.0, 0.5]), jnp.array([0.5, 1.0, -1.0])):
        update, state = opt.update(grads, state, params)
        params = optax.apply_updates(params, update)
        updates.append(np.asarray(update))
    return updates


def some(**values):
    """Numbers that change nothing, the gate far from open, but for those given by name."""
    numbers = np.eye(NUMBERS)[GATE] * -1e3
    for name, value in values.items():
        numbers[globals()[name]] = value
    return numbers


def test_numbers_of_the_rate_scale_the_step():
    still = steps(some())
    log_rms = 0.5 * np.log10(1e-4 + np.mean(PARAMS**2))
    for numbers, factor in [
        (some(BIAS=0.3), np.exp(0.3)),
        (some(LOG=0.7), np.exp(0.7 * log_rms)),
        (some(TIME=0.4), np.exp(0.4 * np.tanh(0.0 - 1.0))),
    ]:
        np.testing.assert_allclose(steps(numbers)[0], factor * still[0], rtol=1e-5)


def test_numbers_of_the_direction_add_their_input():
    first, second = steps(some())
    rate = np.abs(first[0])  # of a direction of one
    np.testing.assert_allclose(
        steps(some(PARAMETER=0.02))[0] - first, -rate * 0.2 * NORMALIZED, rtol=1e-4
    )
    # The gradient and Adam's momentum are the same at the first step alone.
    by_gradient, by_momentum = (steps(some(**{name: 0.05})) for name in ("GRADIENT", "MOMENTUM"))
    np.testing.assert_allclose(by_gradient[0], by_momentum[0], rtol=1e-5)
    assert np.abs(by_gradient[1] - by_momentum[1]).max() > 1e-3 * np.abs(second).max()


def test_the_gate_opens_and_closes_the_decay():
    first = steps(some())[0]
    rate = np.abs(first[0])
    log_rms, time = 0.5 * np.log10(1e-4 + np.mean(PARAMS**2)), np.tanh(0.0 - 1.0)
    for gate in (-1.1, 0.0, 0.4, 2.0):
        decayed = np.maximum(0, NORMALIZED + gate) - np.maximum(0, gate - NORMALIZED)
        # The same gate, by its constant alone or with the tensor's and the time's share.
        for numbers in (
            some(LOG_SLOPE=np.log(0.3), GATE=gate),
            np.append(
                some(LOG_SLOPE=np.log(0.3), GATE=gate - 0.7 * log_rms - 0.2 * time)[:9],
                [0.7, 0.0, 0.2],
            ),
        ):
            np.testing.assert_allclose(
                steps(numbers)[0] - first, -rate * 0.3 * decayed, rtol=1e-3, atol=1e-8
            )


def test_the_start_has_its_numbers_at_the_inputs_they_are_named_after():
    search = base.StepSearch(
        added={
            "parameter": (0.1,),
            "adam_momentum": (0.2, 9.0),
            "log_adam_gradient": (0.3,),
            "times": (0.4, 9.0),
            "log_adam_momentum": (9.0,),
        },
        added_bias=0.5,
        decay_log_slope=-2.0,
        gate_bias=-3.0,
        gate={"log_parameter": (-4.0,)},
    )
    start = step_search.numbers_at_start(step_search.searched_settings(OPTIMIZER), search)
    np.testing.assert_allclose(
        start.mean, [0.1, 0.0, 0.2, 0.0, 0.3, 0.4, 0.5, -2.0, -3.0, -4.0, 0.0, 0.0]
    )
    np.testing.assert_allclose(
        start.std, [0.0008, 0.003, 0.003, 0.12, 0.12, 0.05, 0.1, 0.3, 0.8, 0.5, 0.5, 0.5]
    )


def test_the_start_does_not_decay_while_gradients_last():
    search = dataclasses.replace(catalog.load("general")[0].search, added={}, added_bias=0.0)
    start = step_search.numbers_at_start(step_search.searched_settings(OPTIMIZER), search)
    # Adam's first gradient is one over its scale.
    np.testing.assert_allclose(steps(start.mean)[0], steps(some())[0], rtol=1e-5)


def test_only_a_theta_that_starts_as_adam_is_searched():
    for wrong in (
        {"start": base.StartAsAdam(learning_rate=1e-3)},
        {"start": base.StartAsAdam()},
        {"hidden_sizes": (8, 8)},
        {"features": ("adam_momentum", "log_parameter", "log_adam_gradient")},
    ):
        config = base.TrainConfig(
            optimizer=dataclasses.replace(OPTIMIZER, **wrong), search=base.StepSearch()
        )
        with pytest.raises(ValueError, match="StepSearch needs"):
            step_search.step_search(config)


def test_what_ships_is_general_es_with_a_decay():
    optimizer = build_optimizer(step_search.with_units(catalog.load("general")[0].optimizer))[0]
    shapes = jax.tree.map(np.shape, jax.eval_shape(optimizer.init, jax.random.key(0)))
    ours, theirs = (learned_opt.load_theta(name)[1] for name in ("general", "general_es"))
    assert jax.tree.map(np.shape, ours) == shapes
    # The search leaves the other units as they were.
    np.testing.assert_array_equal(
        ours["layer_0"]["weights"][:, 4:-2], theirs["layer_0"]["weights"][:, 4:]
    )
    np.testing.assert_array_equal(ours["layer_1"]["weights"][:-2], theirs["layer_1"]["weights"])
