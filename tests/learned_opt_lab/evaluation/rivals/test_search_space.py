"""Draws: the default first, prefixes of each other, in their ranges; schedules are Optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from learned_opt_lab.evaluation.rivals.rival import Rival
from learned_opt_lab.evaluation.rivals.schedules import SCHEDULES, scheduled
from learned_opt_lab.evaluation.rivals.search_space import (
    Choice,
    LogUniform,
    SearchSpace,
    Uniform,
)
from learned_opt_lab.evaluation.rivals.table import RIVALS

SPACE = SearchSpace(
    {"learning_rate": 1e-3, "weight_decay": 0.0, "warmup": 0.1, "schedule": "constant", "b1": 0.9},
    {
        "learning_rate": LogUniform(1e-5, 1e-1),
        "weight_decay": LogUniform(1e-6, 1e-2),
        "warmup": Uniform(0.0, 0.2),
        "schedule": Choice(SCHEDULES),
        "b1": Choice((0.8, 0.9)),
    },
)


@pytest.mark.parametrize("space", [SPACE, *(rival.space for rival in RIVALS.values())])
def test_the_default_is_first_and_budgets_are_prefixes(space):
    large = space.draw(64, seed=3)
    for budget in (1, 5, 11):
        for name, values in space.draw(budget, seed=3).items():
            np.testing.assert_array_equal(values, large[name][:budget])
    for name, value in space.default.items():
        number = space.words[name].index(value) if isinstance(value, str) else value
        assert large[name][0] == np.float32(number)


def test_draws_have_the_distributions_of_their_axes():
    drawn = {name: values[1:] for name, values in SPACE.draw(4001, seed=0).items()}
    for name, (low, high) in {"learning_rate": (1e-5, 1e-1), "weight_decay": (1e-6, 1e-2)}.items():
        quantiles = np.log(drawn[name] / low) / np.log(high / low)
        assert scipy.stats.kstest(quantiles, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(drawn["warmup"] / 0.2, "uniform").pvalue > 1e-3
    for name, values in {"schedule": (0, 1, 2), "b1": (0.8, 0.9)}.items():
        counts = [np.isclose(drawn[name], value).sum() for value in values]
        assert sum(counts) == 4000
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    correlations = np.corrcoef(list(drawn.values())) - np.eye(len(drawn))
    assert np.abs(correlations).max() < 4 / np.sqrt(4000)
    assert not np.array_equal(SPACE.draw(5, seed=1)["warmup"], SPACE.draw(5, seed=0)["warmup"])


@pytest.mark.parametrize("budget", [0, -1, 1.5])
def test_a_budget_below_one_is_refused(budget):
    with pytest.raises(ValueError, match=r"budget must be"):
        SPACE.draw(budget, seed=0)


def optax_schedule(kind, peak, warm, num_steps):
    """The same of Optax's own parts."""
    falling = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, num_steps - warm),
        "cosine": optax.cosine_decay_schedule(peak, num_steps - warm),
    }[kind]
    rising = optax.linear_schedule(peak / (warm + 1), peak, warm)
    return optax.join_schedules([rising, falling], [warm]) if warm else falling


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(("warmup", "warm"), [(0.0, 0), (0.02, 1), (0.1, 5), (0.25, 12)])
def test_schedules_equal_optax(kind, warmup, warm):
    ours = jax.jit(jax.vmap(scheduled(0.3, SCHEDULES.index(kind), warmup, 50)))(jnp.arange(50))
    optaxs = [float(optax_schedule(kind, 0.3, warm, 50)(step)) for step in range(50)]
    np.testing.assert_allclose(ours, optaxs, rtol=2e-6, atol=1e-7)
    assert np.all(np.asarray(ours) > 0)
    if kind == "cosine" and warm:
        whole = optax.warmup_cosine_decay_schedule(0.3 / (warm + 1), 0.3, warm, 50)
        np.testing.assert_allclose(ours, [float(whole(s)) for s in range(50)], rtol=2e-6, atol=1e-7)


def test_a_space_may_have_some_of_the_schedules():
    """Its indices are of its own words, not of the table of schedules."""
    space = SearchSpace(
        {"learning_rate": 1.0, "schedule": "linear"},
        {"learning_rate": Choice((1.0,)), "schedule": Choice(("constant", "cosine"))},
    )
    rival = Rival(lambda learning_rate: learning_rate, space, "", "")
    drawn = space.draw(20, seed=0)
    assert drawn["schedule"][0] == 2
    assert set(drawn["schedule"][1:]) == {0, 1}
    for index, word in enumerate(space.words["schedule"]):
        rate = rival.optimizer({"learning_rate": 1.0, "schedule": jnp.float32(index)}, 10)
        expected = optax_schedule(word, 1.0, 0, 10)
        np.testing.assert_allclose(rate(7), float(expected(7)), rtol=1e-6)
    assert rival.with_schedule("cosine").space.draw(1, 0)["schedule"][0] == 1
