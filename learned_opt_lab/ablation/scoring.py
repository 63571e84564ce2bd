"""What the thetas of an ablation are worth:
losses of whole episodes from fresh weights, on the same tasks for all variants.
"""

from collections.abc import Callable
from typing import Any

import jax
from numpy.typing import NDArray

from learned_opt import LearnedOptimizer
from learned_opt_lab.evaluation.held_out import cap_losses
from learned_opt_lab.evaluation.measures import measuring_interval
from learned_opt_lab.evaluation.sweep import Runs, make_runs, make_sweep
from tasks import TaskFamily

SPLITS = ("train", "outer_valid", "test")
REPORTED, CHOSEN_BY = 1, 2
"""Which tasks: those that results are of, and those that outer rates are chosen by. Neither are of
outer-training's key: no task is evaluated that a particle has seen in the same draw."""


def evaluator(
    families: dict[str, TaskFamily],
    optimizer: LearnedOptimizer,
    settings: Any,
    role: int = REPORTED,
) -> Callable[[Any], dict[str, NDArray]]:
    """`thetas, leaves [seeds, ...] -> {"<family>/<split>": [seeds, tasks]}`;
    the same tasks at every call.

    Args:
      families: name -> family.
      optimizer: the learned optimizer.
      settings: `learned_opt_lab.ablation.runs.Settings`.
      role: which tasks.
    """
    every = measuring_interval(settings.num_steps)
    key = jax.random.fold_in(jax.random.key(settings.seed), role)
    sweeps: dict[str, tuple[Callable, Runs]] = {}
    for index, (name, family) in enumerate(families.items()):
        sweep = make_sweep(
            family,
            optimizer.within(settings.num_steps),
            num_steps=settings.num_steps,
            splits=SPLITS,
            eval_every=every,
        )
        sweeps[name] = sweep, make_runs(jax.random.fold_in(key, index), settings.num_tasks)

    def evaluate(thetas: Any) -> dict[str, NDArray]:
        losses = {}
        for name, (sweep, runs) in sweeps.items():
            for split, metrics in sweep(thetas, runs).items():
                curves = cap_losses(metrics["loss"], settings.loss_cap)[..., 1:]
                losses[f"{name}/{split}"] = curves.mean(axis=-1)
                losses[f"{name}_final/{split}"] = curves[
                    ..., -max(1, curves.shape[-1] // 10) :
                ].mean(axis=-1)
        return losses

    return evaluate
