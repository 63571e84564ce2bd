"""What the thetas of an ablation are worth:
losses of whole episodes from fresh weights, on the same tasks for all variants.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from learned_opt import LearnedOptimizer
from learned_opt_lab.evaluation.held_out import cap_losses
from learned_opt_lab.evaluation.measures import measuring_interval
from learned_opt_lab.evaluation.sweep import Runs, make_runs, make_sweep
from outer_train import late_weight
from tasks import TaskFamily

SPLITS = ("train", "outer_valid", "test")
TINY = float(np.finfo(np.float32).tiny)
REPORTED, CHOSEN_BY = 1, 2
"""Which tasks: those that results are of, and those that outer rates are chosen by. Neither are of
outer-training's key: no task is evaluated that a particle has seen in the same draw."""


def evaluator(
    families: Mapping[str, Sequence[TaskFamily]],
    optimizer: LearnedOptimizer,
    settings: Any,
    role: int = REPORTED,
) -> Callable[[Any], dict[str, NDArray]]:
    """`thetas, leaves [seeds, ...] -> {"<name>/<split>": [seeds, tasks]}`;
    the same tasks at every call.

    Args:
      families: name -> families, whose tasks follow each other, times the family's weight.
      optimizer: the learned optimizer.
      settings: `learned_opt_lab.ablation.runs.Settings`.
      role: which tasks.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), role)
    sweeps: dict[str, list[tuple[Callable, Runs, float]]] = {}
    for index, (name, members) in enumerate(families.items()):
        sweeps[name], key_of_name = [], jax.random.fold_in(key, index)
        for number, family in enumerate(members):
            num_steps = family.num_steps or settings.num_steps
            sweep = make_sweep(
                family,
                optimizer.within(num_steps),
                num_steps=num_steps,
                splits=SPLITS,
                eval_every=measuring_interval(num_steps),
            )
            runs = make_runs(jax.random.fold_in(key_of_name, number), settings.num_tasks)
            sweeps[name].append((sweep, runs, family.weight))

    def evaluate(thetas: Any) -> dict[str, NDArray]:
        losses: dict[str, list[NDArray]] = {}
        for name, members in sweeps.items():
            for sweep, runs, weight in members:
                for split, metrics in sweep(thetas, runs).items():
                    curves = cap_losses(metrics["loss"], settings.loss_cap)[..., 1:]
                    if settings.log_offset is not None:
                        curves = np.log(np.maximum(curves + settings.log_offset, TINY))
                    end = curves[..., -max(1, curves.shape[-1] // 10) :]
                    whole = np.average(curves, axis=-1, weights=_weights(settings, curves))
                    for label, mean in (("", whole), ("_final", end.mean(axis=-1))):
                        losses.setdefault(f"{name}{label}/{split}", []).append(weight * mean)
        return {name: np.concatenate(parts, axis=-1) for name, parts in losses.items()}

    return evaluate


def _weights(settings: Any, curves: NDArray) -> NDArray | None:
    """Of the points of a curve, after its first, in the outer loss; None where they are alike."""
    number = curves.shape[-1]
    return late_weight(np.arange(number), number) if settings.late else None
