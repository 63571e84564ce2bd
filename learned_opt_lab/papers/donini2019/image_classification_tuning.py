"""How the methods of `image_classification_schedules` are run and tuned,
with equally many trials each.

A trial is a first rate and, for an online method, a hyper-learning rate. A hand-made schedule
spends all its trials on the first rate. MARTHE's meta steps start from what the paper's search
finds, the largest that does not diverge, and go down from there by powers of ten: minibatch noise
alone drives the hyper-learning rate at the edge of divergence.

"MARTHE untuned" is the paper's own recipe: its first rate, a hyper-learning rate that starts at 0,
and as meta step what the search finds, with no trial.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.hypergradient import (
    HyperLearningRateSearch,
    find_hyper_learning_rate,
    hd,
    loss_diverged,
    marthe,
    rtho,
)
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.donini2019.hand_schedules import HAND, hand_schedule
from learned_opt_lab.papers.schedule_runs import (
    Recording,
    over_runs,
    rows_of,
    step_cost,
    train,
)
from tasks import StatefulTask, Task, as_stateful
from tasks.images import ImageData

FIXED = ("constant", *HAND)
"""Schedules that do not look at the loss."""
UNTUNED = "MARTHE untuned"
PAPER_RATES = {"vgg_sgdm": 0.1, "resnet_adam": 3e-4}
"""First rates of all methods in the paper."""


class Trials(NamedTuple):
    """Settings to try.

    Attributes:
      hand: first rates of each hand-made schedule and of the constant rate.
      online: first rates of the online methods.
      betas: hyper-learning rates of HD and RTHO.
      fractions: MARTHE's meta steps, in units of what the search finds from each first rate.
    """

    hand: tuple[float, ...]
    online: tuple[float, ...]
    betas: dict[str, tuple[float, ...]]
    fractions: tuple[float, ...]

    def cells(self, method: str, searches: dict[float, HyperLearningRateSearch]) -> np.ndarray:
        """`[trials, 2]`: first rate, and hyper-learning rate or the number of a fixed schedule."""
        if method in FIXED:
            pairs = [(rate, FIXED.index(method)) for rate in self.hand]
        elif method == "MARTHE":
            pairs = [
                (rate, searches[rate].value * fraction)
                for rate in self.online
                for fraction in self.fractions
            ]
        else:
            pairs = [(rate, beta) for rate in self.online for beta in self.betas[method]]
        return np.array(pairs, np.float32)


PAPER_TRIALS = {
    name: Trials((rate,), (rate,), {"HD": (1e-6,), "RTHO": (1e-8,)}, (1.0,))
    for name, rate in PAPER_RATES.items()
}
DEFAULT_TRIALS = {
    "vgg_sgdm": Trials(
        hand=(0.003, 0.01, 0.03, 0.06, 0.1, 0.3),
        online=(0.03, 0.1),
        betas={"HD": (1e-4, 1e-3, 1e-2), "RTHO": (1e-5, 1e-4, 1e-3)},
        fractions=(1.0, 0.1, 0.01),
    ),
    "resnet_adam": Trials(
        hand=(0.001, 0.003, 0.006, 0.01, 0.03, 0.1),
        online=(0.003, 0.01),
        betas={"HD": (1e-6, 1e-5, 1e-4), "RTHO": (1e-9, 1e-8, 1e-7)},
        fractions=(1.0, 0.1, 0.01),
    ),
}


class Setting(NamedTuple):
    """One figure of the paper.

    Attributes:
      task: what is trained; its `eval_loss` has no weight decay.
      data: its images.
      inner: the inner optimizer.
      num_steps: T.
      num_points: measurements of a run.
      tuning_rows: examples of `data` by which methods are tuned.
      test_rows: examples by which they are compared.
    """

    task: Task | StatefulTask
    data: ImageData
    inner: Callable[[Any], optax.GradientTransformation]
    num_steps: int
    num_points: int
    tuning_rows: np.ndarray
    test_rows: np.ndarray


def programs(
    setting: Setting, size: int
) -> dict[str, Callable[[np.ndarray, jax.Array], dict[str, np.ndarray]]]:
    """`(cells [runs, 2], keys [runs]) -> curves [runs, ...]` for every method;
    compiled once, for `size` runs.
    """
    inner, num_steps = setting.inner, setting.num_steps

    def fixed_rate(cell, i):
        schedules = [hand_schedule(name, cell[0], num_steps) for name in FIXED]
        return jax.lax.switch(cell[1].astype(jnp.int32), schedules, i)

    of_state = lambda cell, state, i: state.learning_rate
    methods = {
        "HD": (lambda cell: hd(inner, cell[0], cell[1]), of_state),
        "RTHO": (lambda cell: rtho(inner, cell[0], cell[1]), of_state),
        "MARTHE": (lambda cell: marthe(inner, cell[0], meta_step=cell[1]), of_state),
    }
    fixed = _program(
        setting,
        lambda cell: inner(lambda i: fixed_rate(cell, i)),
        lambda cell, state, i: fixed_rate(cell, i),
        size,
    )
    online = {name: _program(setting, *method, size) for name, method in methods.items()}
    return dict.fromkeys(FIXED, fixed) | online | {UNTUNED: online["MARTHE"]}


def step_costs(setting: Setting) -> dict[str, dict[str, float]]:
    """`schedule_runs.step_cost` of each kind of method on the setting's network, and as multiples
    of the inner optimizer's at a given rate.
    """
    inner, rate = setting.inner, 1e-3
    methods = {
        "fixed": inner(rate),
        "HD": hd(inner, rate, 1e-6),
        "RTHO": rtho(inner, rate, 1e-6),
        "MARTHE": marthe(inner, rate, meta_step=1e-6),
    }
    objective = _objective(as_stateful(setting.task))
    costs = {
        name: step_cost(setting.task, objective, method, setting.data)
        for name, method in methods.items()
    }
    return {
        name: cost | {f"{part}_over_fixed": cost[part] / costs["fixed"][part] for part in cost}
        for name, cost in costs.items()
    }


def tune(
    method: str, train_all: Callable[..., dict[str, np.ndarray]], cells: np.ndarray, keys: jax.Array
) -> dict[str, Any]:
    """The trial of the highest mean accuracy on the tuning split.

    A single trial is chosen without a run.
    """
    accuracy = None
    if len(cells) > 1:
        runs = train_all(np.repeat(cells, len(keys), axis=0), jnp.tile(keys, len(cells)))
        accuracy = runs["tuning_accuracy"][:, -1].reshape(len(cells), len(keys)).mean(axis=1)
    return {
        "chosen": 0
        if accuracy is None
        else lowest_known(-accuracy, f"tuning accuracy of {method}"),
        "trials": [
            {
                "first_rate": float(rate),
                "hyper_learning_rate": None if method in FIXED else float(hyper),
                "tuning_accuracy": None if accuracy is None else float(accuracy[i]),
            }
            for i, (rate, hyper) in enumerate(cells)
        ],
    }


def search_meta_steps(
    setting: Setting,
    rates: Sequence[float],
    num_steps: int,
    start: float,
    key: jax.Array,
    compared: bool = True,
) -> dict[float, HyperLearningRateSearch]:
    """The paper's search, on short runs from each first rate.

    Args:
      setting: what is trained.
      rates: first rates.
      num_steps: of a run.
      start: the largest meta step tried.
      key: of the runs.
      compared: a run counts as diverged, too, where its last fifth has a higher loss than on the
        same minibatches at the first rate kept: a network whose units have died diverges no
        further. The paper has no such criterion.
    """
    short = setting._replace(num_steps=num_steps, num_points=1)
    train_all = _program(
        short,
        lambda cell: marthe(setting.inner, cell[0], meta_step=cell[1]),
        lambda cell, state, i: state.learning_rate,
        size=1,
    )
    tail = -max(1, num_steps // 5)

    def search(rate):
        losses_of = lambda value: train_all(np.array([[rate, value]], np.float32), key[None])[
            "losses"
        ][0]
        kept = losses_of(0.0)[tail:].mean() if compared else np.inf
        diverged = lambda losses: loss_diverged(losses) or losses[tail:].mean() > kept
        return find_hyper_learning_rate(losses_of, start=start, diverged=diverged, max_trials=20)

    return {rate: search(rate) for rate in rates}


def _program(setting: Setting, method, rate_of, size: int):
    """A compiled training program over runs.

    A call takes `size` of them at a time, so that it is compiled once.
    """

    def one(cell, key, data):
        return _train(setting, method(cell), lambda state, i: rate_of(cell, state, i), key, data)

    run = over_runs(one, one_by_one=True)

    def train_all(cells: np.ndarray, keys: jax.Array) -> dict[str, np.ndarray]:
        slices: Sequence[slice] = [slice(i, i + size) for i in range(0, len(cells), size)]
        parts = [run(jnp.asarray(cells[part]), keys[part], setting.data) for part in slices]
        runs = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        return {"rates": runs.rates, "losses": runs.losses, **runs.measures}

    return train_all


def _objective(task: StatefulTask):
    """The loss on a minibatch of `inner_valid`, as at test time and without weight decay."""

    def objective(params, model_state, key, data):
        key_batch, key_loss = jax.random.split(key)
        batch = task.sample_batch(data, key_batch, "inner_valid")
        return task.eval_loss(params, model_state, key_loss, batch)[0]

    return objective


def _train(setting: Setting, transformation, rate_of, key, data):
    task = as_stateful(setting.task)

    def evaluate(params, model_state, rows, data):
        batch = rows_of(data, rows)
        loss, metrics = task.eval_loss(params, model_state, jax.random.key(0), batch)
        return loss, metrics["accuracy"]

    def measure(params, model_state, data):
        loss, accuracy = evaluate(params, model_state, setting.test_rows, data)
        tuning_accuracy = evaluate(params, model_state, setting.tuning_rows, data)[1]
        return {"test_loss": loss, "test_accuracy": accuracy, "tuning_accuracy": tuning_accuracy}

    recording = Recording(rate_of, measure, setting.num_points)
    objective = _objective(task)
    return train(task, objective, transformation, recording, data, key, setting.num_steps)
