"""Every baseline of the table: its curves in a sweep equal a plain Optax loop;
its search is what it says.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_lab.evaluation import regularized
from learned_opt_lab.evaluation.baselines import BASELINES, LEARNING_RATES, baseline
from learned_opt_lab.evaluation.regularized import ADAM8_RANGES
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep

adam8_search = regularized.random_search(ADAM8_RANGES)
ALONE = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadamw": optax.nadamw,
}


@pytest.mark.parametrize("name", sorted(ALONE))
def test_curve_in_a_sweep_equals_optax_alone(name, regression_family, plain_loop):
    family, runs = regression_family(), make_runs(jax.random.key(1), 2)
    configurations = BASELINES[name].configurations(1, 0)
    curves = make_sweep(family, BASELINES[name].factory, num_steps=5, splits=("test",))(
        configurations, runs
    )
    for index, run in ((0, 0), (5, 1)):
        alone = plain_loop(family, ALONE[name](LEARNING_RATES[index]), runs, run, 5, "test")
        np.testing.assert_allclose(curves["test"]["loss"][index, run], alone, rtol=1e-5)


def test_untuned_adam_is_one_configuration(regression_family, plain_loop):
    family, runs = regression_family(), make_runs(jax.random.key(1), 1)
    chosen, configurations = BASELINES["adam_1e-3"], BASELINES["adam_1e-3"].configurations(64, 0)
    curves = make_sweep(family, chosen.factory, num_steps=5, splits=("test",))(
        configurations, runs
    )["test"]["loss"]
    assert curves.shape == (1, 1, 5 + 1)
    np.testing.assert_allclose(
        curves[0, 0], plain_loop(family, optax.adam(1e-3), runs, 0, 5, "test"), rtol=1e-5
    )


SHARED = {
    "learning_rate": 0.1,
    "exponential_decay": 0.05,
    "linear_decay": 0.1,
    "l1": 0.01,
    "l2": 0.02,
}
OWN = {
    "adam8": {"one_minus_b1": 0.2, "one_minus_b2": 0.05, "eps": 1e-3},
    "rmsprop8": {"one_minus_momentum": 0.2, "one_minus_decay": 0.05, "eps": 1e-3},
    "momentum6": {"one_minus_momentum": 0.2},
}


@pytest.mark.parametrize("name", OWN)
def test_the_regularized_equal_their_formulas(name):
    """Three steps by hand, in NumPy: regularized gradient, rule, and both decays of the rate."""
    h = SHARED | OWN[name]
    assert set(h) == set(BASELINES[name].search_space(1, 0))
    optimizer = BASELINES[name].factory({k: jnp.float32(v) for k, v in h.items()})
    params, mean, square = np.array([1.0, -2.0, 0.5]), 0.0, 0.0
    ours = jnp.asarray(params, jnp.float32)
    state = optimizer.init(ours)
    for t, grad in enumerate(np.array([[0.3, -0.1, 0.2], [0.1, 0.4, -0.3], [-0.2, 0.2, 0.1]])):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jnp.asarray(grad, jnp.float32), state, ours)
        ours = optax.apply_updates(ours, updates)
        grad = grad + h["l1"] * np.sign(params) + 2 * h["l2"] * params
        rate = h["learning_rate"] * np.exp(-0.05 * t) * max(0, 1 - 0.1 * t)
        square = 0.95 * square + 0.05 * grad**2
        if name == "adam8":
            mean = 0.8 * mean + 0.2 * grad
            root = np.sqrt(square / (1 - 0.95 ** (t + 1))) + h["eps"]
            params = params - rate * mean / (1 - 0.8 ** (t + 1)) / root
        else:
            root = np.sqrt(square) + h["eps"] if name == "rmsprop8" else 1.0
            mean = 0.8 * mean - rate * grad / root
            params = params + mean
    np.testing.assert_allclose(ours, params, rtol=1e-5)


def test_adam8_curves_in_a_sweep_equal_optax_alone(regression_family, plain_loop):
    family, runs = regression_family(), make_runs(jax.random.key(2), 1)
    configurations = adam8_search(6, seed=1)
    sweep = make_sweep(family, BASELINES["adam8"].factory, num_steps=4, splits=("test",))
    losses = sweep(configurations, runs)["test"]["loss"]
    for index in (0, 5):
        alone = BASELINES["adam8"].factory({k: v[index] for k, v in configurations.items()})
        np.testing.assert_allclose(
            losses[index, 0], plain_loop(family, alone, runs, 0, 4, "test"), rtol=1e-5
        )


@pytest.mark.parametrize("name", ["hd", "rtho", "marthe"])
def test_hypergradient_curves_in_a_sweep_equal_the_loop_alone(name, regression_family, plain_loop):
    family, runs = regression_family(), make_runs(jax.random.key(1), 2)
    chosen, configurations = BASELINES[name], BASELINES[name].configurations(1, 0)
    sweep = make_sweep(
        family, chosen.factory, num_steps=4, splits=("test",), extra_args=chosen.extra_args
    )
    curves = sweep(configurations, runs)["test"]["loss"]
    for index, run in ((6, 0), (9, 1)):
        alone = chosen.factory({k: jnp.float32(v[index]) for k, v in configurations.items()})
        losses = plain_loop(family, alone, runs, run, 4, "test", hypergradient=True)
        np.testing.assert_allclose(curves[index, run], losses, rtol=1e-5)


def test_grid_has_the_eleven_rates():
    np.testing.assert_allclose(LEARNING_RATES, 10.0 ** np.arange(-4, 1.25, 0.5))
    assert all(BASELINES[name].num_configurations(64) == 11 for name in ALONE)


def test_random_search_is_seeded_grows_by_appending_and_keeps_its_ranges():
    small, large = adam8_search(10, seed=3), adam8_search(1000, seed=3)
    for name, (low, high) in ADAM8_RANGES.items():
        np.testing.assert_array_equal(small[name], large[name][:10])
        assert large[name].min() >= low * 0.999
        assert large[name].max() <= high * 1.001
        middle = np.mean(np.log(large[name]) > (np.log(low) + np.log(high)) / 2)
        assert abs(middle - 0.5) < 4 * 0.5 / np.sqrt(1000)
    assert not np.array_equal(adam8_search(10, seed=4)["eps"], small["eps"])


def test_bad_names_and_budgets():
    with pytest.raises(ValueError, match=r"did you mean .*adamw"):
        baseline("adamv")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        adam8_search(0, 0)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "one length"),
        ({"learning_rate": [0.1, 0.2], "eps": [1e-8]}, r"one length.*\(2,\).*\(1,\)"),
        ({"learning_rate": 0.1}, r"one length.*shapes \{'learning_rate': \(\)\}"),
        ({"learning_rate": []}, "learning_rate must be finite.*got none"),
        (
            {"learning_rate": [0.1, np.nan]},
            "learning_rate must be finite, from 0 to 1e.30; got nan",
        ),
        ({"learning_rate": [np.inf]}, "got inf"),
        ({"one_minus_b2": [0.1, 0.0]}, "one_minus_b2 .* got 0.0"),
        ({"one_minus_b1": [1.5]}, "one_minus_b1 .* got 1.5"),
        ({"eps": [-1e-8]}, "eps .* got -1e-08"),
        ({"my_own": [np.nan]}, "my_own .* got nan"),
    ],
)
def test_a_search_space_with_a_value_that_no_optimizer_takes_is_refused(space, message):
    entry = BASELINES["adam"]._replace(configurations=lambda budget, seed: space)
    for look in (lambda: entry.search_space(4, 0), lambda: entry.num_configurations(4)):
        with pytest.raises(ValueError, match=message):
            look()


@pytest.mark.parametrize("name", BASELINES)
def test_every_search_space_of_the_table_is_in_range(name):
    assert len(next(iter(BASELINES[name].search_space(1000, 0).values()))) == BASELINES[
        name
    ].num_configurations(1000)
