"""An evaluation of tasks that are fed from the host: the same runs, window by window."""

import jax
import numpy as np
import optax

from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from tests.support.windows import windowed_family

RATES = np.float32([0.05, 0.1, 0.2])
OPTIONS = {"num_steps": 6, "eval_every": 2, "num_eval_batches": 2, "splits": ("train", "test")}


def sweep_of(family):
    sweep = make_sweep(family, optax.sgd, **OPTIONS)
    return lambda num_runs: sweep(RATES, make_runs(jax.random.key(0), num_runs))


def test_equal_windows_give_what_data_that_stay_give():
    family = windowed_family(step=0.0)
    moves, stays = sweep_of(family), sweep_of(family._replace(windows=None))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for num_runs in (1, 5):  # spread along configurations, and along runs
        jax.tree.map(close, moves(num_runs), stays(num_runs))


def test_a_sweep_that_tells_how_far_it_is_gives_the_same():
    sweep = make_sweep(windowed_family(step=0.0)._replace(windows=None), optax.sgd, **OPTIONS)
    runs, shares = make_runs(jax.random.key(0), 3), []
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, sweep(RATES, runs, shares.append), sweep(RATES, runs))
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_each_measurement_has_the_next_window_and_all_runs_the_same():
    sweep = sweep_of(windowed_family(step=100.0))
    curves = sweep(3)
    level = np.asarray(curves["test"]["level"])
    assert level.shape == (3, 3, 4)
    np.testing.assert_allclose(np.diff(level), 100, atol=2)
    # Batches differ between runs, not between rates; and a second sweep starts at the first window.
    np.testing.assert_array_equal(level, level[:1].repeat(3, axis=0))
    jax.tree.map(np.testing.assert_array_equal, curves, sweep(3))
