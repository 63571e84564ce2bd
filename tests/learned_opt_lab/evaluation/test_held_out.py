"""Held-out scores: numbers traced back to the sweep, ties to Adam, divergence."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.base import LearnedOptimizer
from learned_opt_lab.evaluation.baselines import LEARNING_RATES
from learned_opt_lab.evaluation.held_out import NAMES, cap_losses, score
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from tasks.base import SPLITS, Task, TaskFamily


def scaled_family():
    """Each task is a quadratic of its own curvature,
    so that the best rate differs between tasks.
    """

    def task(curvature):
        def loss(params, key, batch):
            return 0.5 * curvature * jnp.sum((params - batch) ** 2), {}

        return Task(
            init=lambda key: 1.0 + jax.random.uniform(key, (3,)),
            loss=loss,
            sample_batch=lambda data, key, split: (
                data[SPLITS.index(split)] * jax.random.normal(key, (3,))
            ),
        )

    return TaskFamily(
        lambda key: 10 ** jax.random.uniform(key, minval=-1.0, maxval=1.0), task, jnp.full(4, 0.01)
    )


adam_by_log_rate = LearnedOptimizer(
    lambda key: jnp.log(1e-3), lambda theta: optax.adam(jnp.exp(theta))
)


@pytest.fixture(scope="module")
def phases():
    """What `result` was doing, and how far it said it was."""
    return {}


@pytest.fixture(scope="module")
def result(phases):
    def phase(what):
        return contextlib.nullcontext(phases.setdefault(what, []).append)

    theta, untrained = jnp.log(jnp.float32(0.1)), jnp.log(jnp.float32(1e-3))
    return score(
        scaled_family(),
        adam_by_log_rate,
        theta,
        untrained,
        num_steps=20,
        num_tasks=6,
        key=jax.random.key(0),
        phase=phase,
    )


def test_it_says_how_far_it_is(result, phases):
    assert list(phases) == ["scoring", "tuning Adam on"]
    for shares in phases.values():
        assert len(shares) == 21
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_an_adam_in_disguise_scores_what_adam_scores(result):
    assert result.summary["untrained"] == pytest.approx(result.summary["adam_1e-3"], rel=1e-5)
    np.testing.assert_allclose(result.curves["untrained"], result.curves["adam_1e-3"], rtol=1e-4)


def test_summary_is_the_mean_of_the_curves_and_fits_json(result):
    for name in NAMES:
        assert result.curves[name].shape == (6, 20)
        assert result.summary[name] == pytest.approx(result.curves[name].mean())
        low, high = result.summary["intervals"][name]
        assert low < result.summary[name] < high
        assert result.summary["divergences"][name] == 0
    assert json.loads(json.dumps(result.summary)) == result.summary


def test_tuned_adam_has_for_each_task_the_best_rate_on_outer_valid(result):
    runs = make_runs(jax.random.key(0), 6)
    curves = make_sweep(scaled_family(), optax.adam, num_steps=20)(
        np.asarray(LEARNING_RATES, np.float32), runs
    )
    valid = np.asarray(curves["outer_valid"]["loss"])[:, :, 1:]
    best = cap_losses(valid).mean(axis=2).argmin(axis=0)
    assert result.summary["adam_tuned_rates"] == pytest.approx(np.asarray(LEARNING_RATES)[best])
    test = np.asarray(curves["test"]["loss"])[best, np.arange(6), 1:]
    np.testing.assert_allclose(result.curves["adam_tuned"], cap_losses(test), rtol=1e-4)
    assert result.summary["adam_tuned"] < result.summary["adam_1e-3"]


def test_a_diverged_run_counts_as_the_cap_and_is_counted():
    broken = LearnedOptimizer(
        lambda key: jnp.float32(0), lambda theta: optax.scale(jnp.nan + theta)
    )
    zero = jnp.float32(0)
    result = score(
        scaled_family(), broken, zero, zero, num_steps=5, num_tasks=3, key=jax.random.key(1)
    )
    assert result.summary["learned"] == 10.0
    assert result.summary["divergences"]["learned"] == 3
    assert np.isfinite(list(result.curves.values())).all()


def test_cap_losses_by_hand():
    np.testing.assert_array_equal(
        cap_losses([1.0, np.nan, np.inf, -np.inf, 12.0]), [1.0, 10.0, 10.0, 10.0, 10.0]
    )
