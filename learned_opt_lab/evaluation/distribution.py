"""One configuration of a baseline for all tasks of a distribution, as a learned optimizer has one
theta for them (arXiv 1810.10180, figure 6).

A configuration is judged by its mean loss over whole runs on tasks drawn from the family, the same
for all. Configurations are tried in chunks; each is a cell, so that a search goes on where it was
stopped, and a larger budget keeps what a smaller one has tried.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.baselines import Baseline, baseline
from learned_opt_lab.evaluation.held_out import LOSS_CAP, cap_losses
from learned_opt_lab.evaluation.measures import measuring_interval
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.evaluation.tuning import baseline_content
from learned_opt_lab.results import cells, content, folder
from tasks import TaskFamily

CHUNK = 16
"""Configurations that run at once, and are kept together."""
SPLITS = {"valid": "outer_valid", "train": "train"}
"""Objective of outer-training -> what a configuration is judged on."""
_ROLE = 3
"""Of the key: no task is tried on that outer-training or an evaluation has drawn."""


class Distribution(NamedTuple):
    """Tasks that a baseline is tuned over.

    Attributes:
      name: in names of files.
      family: the tasks.
      num_steps: inner steps of a run.
      objective: a key of `SPLITS`.
      num_runs: tasks, each with weights and batches of its own.
      loss_cap: larger losses, and those that are not finite, count as this.
      seed: of the tasks, and of a random search.
    """

    name: str
    family: TaskFamily
    num_steps: int
    objective: str = "valid"
    num_runs: int = 80
    loss_cap: float = LOSS_CAP
    seed: int = 0


class TunedOver(NamedTuple):
    """The outcome of a search over a distribution.

    Attributes:
      hyperparameters: the chosen configuration.
      index: its place among the configurations.
      loss: its score, the mean over runs and over each run.
      scores: of all configurations, `[configurations]`.
      deviations: over runs, `[configurations]`.
      num_runs: of each configuration.
    """

    hyperparameters: dict[str, float]
    index: int
    loss: float
    scores: NDArray
    deviations: NDArray
    num_runs: int


def tune_over(
    distribution: Distribution,
    name: str,
    budget: int,
    place: Path,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> TunedOver:
    """Searches a baseline's configurations, or goes on with a search.

    Args:
      distribution: the tasks.
      name: in `learned_opt_lab.evaluation.baselines.BASELINES`.
      budget: configurations of a random search; a grid has its own number.
      place: folder of all searches' cells.
      show: called with the configurations tried, and how many there are.

    Raises:
      ValueError: for an unknown baseline or objective, or where no score is finite.
    """
    if distribution.objective not in SPLITS:
        raise ValueError(
            f"objective must be one of {', '.join(SPLITS)}, got {distribution.objective!r}"
        )
    entry = baseline(name)
    configurations = entry.search_space(budget, distribution.seed)
    number = len(next(iter(configurations.values())))
    losses = []
    for start, found in _chunks(distribution, name, entry, configurations, place):
        losses.append(found)
        show(min(start + CHUNK, number), number)
    of_runs = np.concatenate(losses)
    scores = of_runs.mean(axis=1)
    best = lowest_known(scores, f"loss of {name} over {distribution.name}")
    return TunedOver(
        {key: float(values[best]) for key, values in configurations.items()},
        best,
        float(scores[best]),
        scores,
        of_runs.std(axis=1),
        distribution.num_runs,
    )


def _chunks(
    of: Distribution,
    name: str,
    entry: Baseline,
    configurations: dict[str, NDArray],
    place: Path,
) -> Iterator[tuple[int, NDArray]]:
    """Where each chunk starts, and its losses `[configurations, runs]`."""
    made_of, run = _content(of, entry), None
    folder_name = f"{of.name}.{name}.{of.objective}.{of.num_steps}x{of.num_runs}.seed{of.seed}"
    number = len(next(iter(configurations.values())))
    for start in range(0, number, CHUNK):
        chunk = {key: values[start : start + CHUNK] for key, values in configurations.items()}
        stem = place / file_name(folder_name) / str(start)
        wanted = made_of | {"configurations": content.data(chunk)}
        stored = cells.read(stem, wanted, folder.warn)
        if stored is None:
            run = run or _runner(of, entry, min(CHUNK, number))
            arrays = {"losses": run(chunk)}
            cells.write(stem, arrays, {}, wanted)
            yield start, arrays["losses"]
        else:
            yield start, stored.arrays["losses"]


def _runner(
    of: Distribution, entry: Baseline, at_once: int
) -> Callable[[dict[str, NDArray]], NDArray]:
    """`configurations -> losses [configurations, runs]`; one program for all chunks."""
    split = SPLITS[of.objective]
    sweep = make_sweep(
        of.family,
        entry.factory_for(of.num_steps),
        num_steps=of.num_steps,
        splits=(split,),
        eval_every=measuring_interval(of.num_steps),
        extra_args=entry.extra_args,
    )
    runs = make_runs(jax.random.fold_in(jax.random.key(of.seed), _ROLE), of.num_runs)

    def run(chunk: dict[str, NDArray]) -> NDArray:
        size = len(next(iter(chunk.values())))
        rows = np.minimum(np.arange(at_once), size - 1)  # of one shape, for one compilation
        curves = sweep({key: values[rows] for key, values in chunk.items()}, runs)
        return cap_losses(curves[split]["loss"], of.loss_cap)[:size, :, 1:].mean(axis=-1)

    return run


def _content(of: Distribution, entry: Baseline) -> dict[str, Any]:
    """What a cell follows from, its configurations apart."""
    return {
        "num_steps": of.num_steps,
        "objective": of.objective,
        "num_runs": of.num_runs,
        "loss_cap": of.loss_cap,
        "seed": of.seed,
        "shipped_code": content.shipped_code(),
        "task_code": content.code((of.family.sample, of.family.task)),
        "data": content.data(of.family.data),
        "baseline_code": baseline_content(entry),
        "versions": content.environment(),
    }
