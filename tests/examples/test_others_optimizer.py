"""The example of another learned optimizer: in a sweep it is what its own functions make of it."""

import runpy
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_lab.evaluation.baselines import searched
from learned_opt_lab.evaluation.rivals.outside import named_rival
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from tasks.base import SPLITS, Task, TaskFamily

EXAMPLES = Path(__file__).parents[2] / "examples"
NUM_STEPS = 12


def family():
    """A quadratic whose minimum is the task."""
    loss = lambda centre: lambda params, key, batch: (jnp.sum((params - centre) ** 2), {})
    task = lambda centre: Task(
        lambda key: jnp.zeros(3), loss(centre), lambda data, key, split: SPLITS.index(split)
    )
    return TaskFamily(lambda key: jax.random.normal(key, (3,)), task)


@pytest.fixture
def rival(tmp_path, monkeypatch):
    for name in ("others_optimizer.py", "others_optimizer.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["others_optimizer.py", "weights.npz"])
    runpy.run_path("others_optimizer.py", run_name="__main__")
    yield named_rival("others_optimizer:small_network@others_optimizer.toml")
    sys.modules.pop("others_optimizer", None)


def test_its_curve_is_that_of_its_own_functions(rival):
    entry, runs = searched(rival), make_runs(jax.random.key(0), 1)
    sweep = make_sweep(
        family(),
        entry.factory_for(NUM_STEPS),
        num_steps=NUM_STEPS,
        splits=("test",),
        extra_args=entry.extra_args,
    )
    curve = np.asarray(sweep(entry.search_space(3, 0), runs)["test"]["loss"])[:, 0]
    centre = np.asarray(jax.random.normal(runs.task[0], (3,)), np.float64)
    with np.load("weights.npz") as file:
        w1, b1, w2 = (file[name] for name in ("w1", "b1", "w2"))
    params, momentum, square, losses = np.zeros(3), np.zeros(3), np.zeros(3), []
    for step in range(1, NUM_STEPS + 2):
        losses.append(np.sum((params - centre) ** 2))
        gradient = 2 * (params - centre)
        momentum = 0.9 * momentum + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        direction = momentum / (1 - 0.9**step) / np.sqrt(square / (1 - 0.99**step))
        inputs = np.stack([direction, np.full(3, step / NUM_STEPS)], axis=-1)
        params = params + 0.01 * np.tanh(inputs @ w1 + b1) @ w2
    np.testing.assert_allclose(curve[0], losses, rtol=1e-5)
    assert losses[-1] < 0.9 * losses[0]
    assert not np.allclose(curve[1], curve[0])
