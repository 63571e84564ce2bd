"""A run that is fed from the host goes on bitwise from a checkpoint, on one device and on two."""

import jax
import numpy as np
import optax
import pytest

from learned_opt.hand_designed import hyperparameters
from outer_train import (
    PARTICLES,
    estimators,
    inner_problem,
    outer_step,
    particle_mesh,
    train_seeds,
    truncation,
)
from outer_train.run import QUIET, LoopSettings, loop
from tasks import Feed
from tasks.analytic.random_quadratic import random_quadratic_family
from tests.support.outer_train.walks import FakeStep, without_timings
from tests.support.windows import windowed_family

NUM_OUTER_STEPS, SAVED_AT = 6, 3


def train_with(step, run, feed, num_outer_steps=NUM_OUTER_STEPS):
    settings = LoopSettings(num_outer_steps, checkpoint_every=SAVED_AT)
    theta = hyperparameters.adam(learning_rate=0.1).init(jax.random.key(0))
    return loop.train(
        step, jax.device_get(theta), jax.random.key(1), feed, run, settings, QUIET
    ).state


def test_a_resumed_run_is_the_undisturbed_one(new_run):
    optimizer = hyperparameters.adam(learning_rate=0.1)
    families = (windowed_family(), random_quadratic_family(2))
    made = [
        estimators.persistent_es(
            inner_problem(family, optimizer, 5), 2, axis_name=PARTICLES, max_num_steps=2,
        )
        for family in families
    ]  # fmt: skip
    losses = {}
    for num_devices in (1, 2):
        mesh = particle_mesh(2, num_devices)
        step = outer_step(made, optax.adam(1e-2), truncation.constant(2), mesh)
        feed = Feed.of(families, 4, step.place_data)
        whole, parts = new_run(f"whole_{num_devices}"), new_run(f"parts_{num_devices}")
        expected = train_with(step, whole, feed)
        train_with(step, parts, feed, SAVED_AT)
        found = train_with(step, parts, feed)
        assert without_timings(parts) == without_timings(whole)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        losses[num_devices] = [row["outer_loss"] for row in without_timings(whole)]
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-5)
    # What is to be hit moves away by one a window.
    assert np.all(np.diff(losses[1]) != 0)
    assert losses[1][-1] > losses[1][0]


def test_each_outer_step_has_the_next_window_and_few_are_on_the_way(new_run, monkeypatch):
    given = []

    class Step(FakeStep):
        def step(self, state, key, datas):
            given.append(float(np.mean(datas[0])))
            return super().step(state, key, datas)

    monkeypatch.setattr(loop, "MAX_WINDOWS_IN_FLIGHT", 1)
    feed = Feed.of((windowed_family(),))
    run, settings = new_run("run"), LoopSettings(4, checkpoint_every=2)
    arguments = (np.float32(0), jax.random.key(0), feed, run)
    loop.train(Step(), *arguments, settings)
    loop.train(Step(), *arguments, LoopSettings(6, checkpoint_every=2))
    np.testing.assert_allclose(given, given[0] + np.arange(6))
    assert loop.max_in_flight(feed) == 1


def test_a_checkpoint_without_windows_is_none_of_a_run_with_them(new_run):
    run, settings = new_run("run"), LoopSettings(1)
    arguments = (FakeStep(), np.float32(0), jax.random.key(0))
    loop.train(*arguments, (), run, settings)
    with pytest.raises(ValueError, match=r"windows\[0\] is missing in it and uint8\[1024\] in the"):
        loop.train(*arguments, Feed.of((windowed_family(),)), run, LoopSettings(2))


def test_seeds_side_by_side_have_the_next_window_too():
    class Step(FakeStep):
        def step(self, state, key, datas):
            state, row = super().step(state, key, datas)
            return state, {name: row[name][None] for name in row} | {
                "outer_loss": np.mean(datas[0])[None]
            }

    feed = Feed.of((windowed_family(),))
    result = train_seeds(Step(), np.float32(0), jax.random.key(0), feed, 5, 2)
    np.testing.assert_allclose(np.diff(result.outer_loss[:, 0]), 1, rtol=1e-6)
