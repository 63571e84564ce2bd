"""The outer rate of each variant: the best of a few after a short run.

A short run is the variant's own, its schedules squeezed into fewer outer steps. Its seed and the
tasks that it is judged on have no part in what is reported. Runs are cells,
`rates/<variant>/<rate>`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learned_opt_lab.ablation import runs
from learned_opt_lab.ablation.runs import Problem, Settings, Variant
from learned_opt_lab.ablation.scoring import CHOSEN_BY, evaluator
from learned_opt_lab.evaluation.statistics import lowest

SEED = -1
"""Of the short runs; those that are reported have seeds from 0 on."""
OUTER_LOSS = "outer_train/outer_valid"


class Chosen(NamedTuple):
    """An outer rate, and the outer loss that each of the rates reached; nan where it has none."""

    rate: float
    losses: dict[float, float]


def choose(
    out: Path,
    problem: Problem,
    name: str,
    variants: dict[float, Variant],
    settings: Settings,
    progress: Callable[[str], None] = lambda what: None,
) -> Chosen:
    """The rate of the lowest outer loss, of equals the first; runs what is missing.

    Args:
      out: the ablation's folder.
      problem: the families; held-out ones have no part in it.
      name: of the variant.
      variants: rate -> the short run with it.
      settings: of the ablation.
      progress: called with what is run.

    Raises:
      ValueError: where no rate has a known outer loss, or a cell is of something else.
    """
    problem = problem._replace(held_out=None)
    settings = settings._replace(num_points=1)
    losses, evaluate = {}, None
    for rate, variant in variants.items():
        place = out / "rates" / name / f"{rate:g}"
        runs.check_variant(place, variant)
        made_of = runs.content_of(problem, variant)
        cell = runs.read_cell(place / "cell.npz", made_of)
        if cell is None:
            progress(f"{name}: a short run at an outer rate of {rate:g}")
            evaluate = evaluate or evaluator(
                problem.evaluated(), variant.optimizer, settings, CHOSEN_BY
            )
            (cell,) = runs.run_seeds(variant, settings, [SEED], evaluate).values()
            runs.write_cell(place / "cell.npz", cell, made_of)
        losses[rate] = float(cell[OUTER_LOSS][-1].mean())
    return Chosen(_best(name, list(losses), list(losses.values())), losses)


def _best(name: str, rates: Sequence[float], losses: Sequence[float]) -> float:
    if (index := lowest(np.asarray(losses))) is None:
        raise ValueError(f"{name}: the outer loss of none of these outer rates is known: {rates}")
    return rates[index]
