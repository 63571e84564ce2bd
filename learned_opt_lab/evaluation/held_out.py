"""The score of one outer-training run:
the learned optimizer against Adam on tasks it has never seen.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from learned_opt import LearnedOptimizer, Theta
from learned_opt_lab.evaluation.baselines import LEARNING_RATES, UNTUNED
from learned_opt_lab.evaluation.statistics import mean, stratified_bootstrap
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.results.folder import finite
from tasks import Key, TaskFamily

LOSS_CAP = 10.0
"""The worst a step's loss can count; what is not finite counts as this.
The clip value of outer-training."""
Phase = Callable[[str], contextlib.AbstractContextManager[Callable[[float], None] | None]]
NAMES = ("learned", "untrained", "adam_1e-3", "adam_tuned")


class HeldOut(NamedTuple):
    """What `score` returns.

    Attributes:
      summary: name -> mean `test` loss over tasks and steps, for `NAMES`; `adam_tuned_rates`, a
        list, one for each task, null where no rate gave a finite loss; `intervals`: name -> [low,
        high], 95 % bootstrap over tasks, null with one task; `divergences`: name -> number of tasks
        with a loss that was not finite; `loss_cap`. Ready for JSON.
      curves: name -> `test` losses `[num_tasks, num_steps]` after each step, capped.
    """

    summary: dict[str, Any]
    curves: dict[str, NDArray]


def cap_losses(losses: Any, cap: float = LOSS_CAP) -> NDArray:
    """Losses with everything above the cap, and everything that is not finite, at the cap:
    a diverged run is worst.
    """
    losses = np.asarray(losses, np.float64)
    return np.where(np.isfinite(losses), np.minimum(losses, cap), cap)


def score(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    theta: Theta,
    untrained_theta: Theta,
    *,
    num_steps: int = 200,
    num_tasks: int = 20,
    key: Key,
    phase: Phase = lambda what: contextlib.nullcontext(),
) -> HeldOut:
    """Mean `test` loss over the first `num_steps` inner steps,
    on `num_tasks` tasks of a held-out family.

    All optimizers see the same tasks, initial parameters and batches. Adam's rate is chosen for
    each task by the mean `outer_valid` loss of the same steps among `LEARNING_RATES`; the learned
    optimizer is not tuned.

    Args:
      family: the held-out family.
      optimizer: the learned optimizer.
      theta: its outer-trained parameters.
      untrained_theta: its parameters before outer-training.
      num_steps: inner steps; the loss is measured after each of them.
      num_tasks: tasks drawn, each with its own initialization and batches.
      key: fixes tasks, initializations and batches.
      phase: called with what is done, "scoring" or "tuning Adam on"; what it gives is entered for
        as long as that takes, and then called with the share that is done.
    """
    runs = make_runs(key, num_tasks)
    thetas = jax.tree.map(lambda *leaves: jnp.stack(leaves), theta, untrained_theta)
    make = functools.partial(make_sweep, family, num_steps=num_steps)
    with phase("scoring") as tell:
        learned = make(optimizer.within(num_steps), splits=("test",))(thetas, runs, tell)
    rates = np.append(LEARNING_RATES, UNTUNED).astype(np.float32)
    with phase("tuning Adam on") as tell:
        adam = make(optax.adam)(rates, runs, tell)

    losses = np.asarray(adam["outer_valid"]["loss"])[:-1, :, 1:]
    validation, measured = (
        cap_losses(losses).mean(axis=-1),
        np.isfinite(losses).any(axis=-1),
    )
    chosen, tasks = validation.argmin(axis=0), np.arange(num_tasks)
    tests = {"learned": learned["test"]["loss"][0], "untrained": learned["test"]["loss"][1]}
    adam_test = np.asarray(adam["test"]["loss"])
    tests.update({"adam_1e-3": adam_test[-1], "adam_tuned": adam_test[chosen, tasks]})
    curves = {name: cap_losses(tests[name][:, 1:]) for name in NAMES}
    intervals = {
        name: stratified_bootstrap(curve.mean(axis=1)[None], mean)[1:]
        for name, curve in curves.items()
    }
    summary = {
        **{name: float(curve.mean()) for name, curve in curves.items()},
        "adam_tuned_rates": [
            float(LEARNING_RATES[i]) if measured[i, t] else None for t, i in enumerate(chosen)
        ],
        "intervals": {name: finite(interval) for name, interval in intervals.items()},
        "divergences": {name: int((~np.isfinite(tests[name])).any(axis=1).sum()) for name in NAMES},
        "loss_cap": LOSS_CAP,
    }
    return HeldOut(summary, curves)
