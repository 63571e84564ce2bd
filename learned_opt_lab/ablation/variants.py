"""The variants of `learned-opt ablate`:
what each changes in a run's config, and how many outer steps it gets.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs import base
from configs.base import TrainConfig


class Ablated(NamedTuple):
    """One variant's config.

    Attributes:
      label: of its line and row.
      group: what it is compared within: estimator, truncation, inputs, objective.
      config: its `num_outer_steps` make up the total of inner steps.
    """

    label: str
    group: str
    config: TrainConfig


MAIN = base.name_of(base.Merged)


def estimator_variants() -> dict[str, type[base.PairEstimator]]:
    """The variants that take another estimator in place of the merge: all of pairs."""
    kinds = base.kinds_of(base.PairEstimator)
    return {name: kind for name, kind in kinds.items() if kind is not base.Merged}


def variant_names(lengths: list[int]) -> list[str]:
    """All variants, the whole method first."""
    fixed = [f"fixed_{length}" for length in lengths]
    return [MAIN, *estimator_variants(), *fixed, "no_momentum", "no_time", "train_objective"]


def variants_of(
    config: TrainConfig, names: list[str], lengths: list[int], start: int, num_inner_steps: int
) -> dict[str, Ablated]:
    """The configs of some variants, each of the same total of inner steps.

    Args:
      config: its tasks, optimizer, inner problem, particles and outer optimizer are all variants'.
      names: of `variant_names(lengths)`.
      lengths: fixed truncations.
      start: where the curriculum starts; it grows linearly over all of outer-training to the
        longest of `lengths`.
      num_inner_steps: of one run, all particles and both sides of a pair.

    Raises:
      ValueError: for what a config cannot be ablated of, or a total below one outer step.
    """
    main = dataclasses.replace(config, estimator=_estimator(config, base.Merged))
    variants = {MAIN: ("merged, curriculum", "method", main)}
    for name, kind in estimator_variants().items():
        label = kind.label or kind.word.replace("-", " ")
        label = f"{label} only" if name in main.estimator.parts else label
        variants[name] = (
            label,
            "estimator",
            dataclasses.replace(config, estimator=_estimator(config, kind)),
        )
    for length in lengths:
        fixed = dataclasses.replace(main, truncation=base.Constant(length))
        variants[f"fixed_{length}"] = (f"fixed truncation {length}", "truncation", fixed)
    for name, label, changes in (
        ("no_momentum", "no momentum inputs", _without_momenta),
        ("no_time", "no time inputs", lambda optimizer: {"timescales": ()}),
    ):
        if isinstance(config.optimizer, base.Mlp):
            optimizer = dataclasses.replace(config.optimizer, **changes(config.optimizer))
            variants[name] = (label, "inputs", dataclasses.replace(main, optimizer=optimizer))
    objective = dataclasses.replace(config.problem, objective="train")
    variants["train_objective"] = (
        "merged, trained on L_train",
        "objective",
        dataclasses.replace(main, problem=objective),
    )
    if missing := [name for name in names if name not in variants]:
        raise ValueError(
            f"{missing[0]} takes inputs away, which is known how to do for optimizer:mlp only"
        )
    return {
        name: _with_budget(*variants[name], lengths[-1], start, num_inner_steps) for name in names
    }


def _without_momenta(optimizer: base.Mlp) -> dict[str, tuple[str, ...]]:
    from learned_opt.per_parameter import PRESETS, MLPSettings

    features = optimizer.features or PRESETS.get(optimizer.preset, MLPSettings()).features
    return {"features": tuple(name for name in features if "momentum" not in name)}


def _estimator(config: TrainConfig, kind: type):
    """An estimator of pairs with what the config's own has in common with it."""
    fields = {field.name for field in dataclasses.fields(kind)} - {"parts"}
    given = {key: value for key, value in vars(config.estimator).items() if key in fields}
    given["num_pairs"] = (
        getattr(config.estimator, "num_pairs", None) or config.estimator.num_particles
    )
    return kind(**given | {"stagger": True})


def _with_budget(
    label: str, group: str, config: TrainConfig, longest: int, start: int, num_inner_steps: int
):
    if group == "truncation":
        length = config.truncation.num_steps
        make = lambda num_outer_steps: np.full(num_outer_steps, length)
        num_outer_steps = steps_for(make, config, num_inner_steps)
    else:
        make = lambda num_outer_steps: np.linspace(start, longest, num_outer_steps, endpoint=False)
        num_outer_steps = steps_for(make, config, num_inner_steps)
        jitter = 0.2 if round(1.2 * longest) <= config.problem.num_steps else 0.0
        truncation = base.Linear(min(start, longest), longest, num_outer_steps, jitter)
        config = dataclasses.replace(config, truncation=truncation)
    return Ablated(label, group, dataclasses.replace(config, num_outer_steps=num_outer_steps))


def steps_for(make: Callable[[int], NDArray], config: TrainConfig, num_inner_steps: int) -> int:
    """How many outer steps come closest to the total of inner steps.

    Args:
      make: `number of outer steps -> truncation lengths`.
      config: for the particles and the episode, at whose end a particle waits for the next
        truncation.
      num_inner_steps: of all particles, both sides of a pair.

    Raises:
      ValueError: where not even one outer step fits.
    """
    pairs, episode = config.estimator.num_pairs, config.problem.num_steps

    def spent(num_outer_steps: int) -> int:
        return inner_steps(make(num_outer_steps), pairs, episode)

    low, high = 0, 1
    while spent(high) < num_inner_steps:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spent(middle) < num_inner_steps else (low, middle)
    best = low if low and num_inner_steps - spent(low) < spent(high) - num_inner_steps else high
    if best < 2:
        raise ValueError(
            f"num_inner_steps = {num_inner_steps} is not enough for two truncations of "
            f"{int(make(1)[0])} steps of {pairs} pairs; give more inner steps, fewer "
            "--estimator.num-pairs or shorter --lengths"
        )
    return best


def inner_steps(lengths: NDArray, num_pairs: int, episode: int) -> int:
    """Live inner steps of a run whose pairs start evenly staggered, as `staggered_steps` does."""
    step = ((np.arange(num_pairs) + 0.5) / num_pairs * episode).astype(int)
    total = 0
    for length in np.round(lengths).astype(int):
        live = np.minimum(length, episode - step)
        total += 2 * int(live.sum())
        step = np.where(step + live >= episode, 0, step + live)
    return total
