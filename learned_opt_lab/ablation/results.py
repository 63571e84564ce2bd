"""What an ablation found: means, paired bootstrap intervals,
what is best and what is within noise of it, and each variant against the base.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from learned_opt_lab.ablation.comparisons import (
    OUTER_LOSS,
    along,
    at_equal_seconds,
    crossed_bootstrap,
    difference,
    final_losses,
    spread,
)
from learned_opt_lab.ablation.report import findings
from learned_opt_lab.ablation.runs import Cell, Settings, Variant
from learned_opt_lab.ablation.variants import BASE
from learned_opt_lab.evaluation.statistics import lowest

TEST_LOSS = "held_out/test"
DEFINITIONS = {
    "outer_loss": "mean loss of fresh outer_valid batches over a whole episode from fresh weights, "
    "on tasks of all families of the config's outer-training, the same for all variants; where the "
    "config's reduction is mean_log, of the logarithm of the loss and its offset, where it is "
    "late_mean, weighted as there; times the family's weight",
    "held_out_test_loss": "the same of test batches on tasks of the first family's held-out one",
    "interval": "95 % percentile bootstrap over seeds and tasks, both resampled",
    "difference_to_best": "paired by seed and task, over the seeds that both have; within noise "
    "where its interval reaches 0",
    "base_less_variant": "outer loss of the base less that of the variant, paired likewise, after "
    "the same total of inner steps; below 0 the base is better",
    "at_equal_seconds": "the same when the quicker of both had finished outer-training, between "
    "the points of the slower one's curve; seconds are those of a seed, without compilation",
    "spread_over_seeds": "of the outer loss, mean over tasks: standard deviation and range",
    "along": "windows of equal numbers of outer steps: mean truncation length, median variance of "
    "one pair's gradient, mean over outer parameters, median of the ratio of RP's to ES's, mean "
    "weight in the merge",
    "outer_rates": "outer loss after a short run at each outer rate, on other tasks and another "
    "seed; the lowest is outer_rate",
    "unknown": "null: of one seed or one task there is no interval, without a held-out family no "
    "held-out loss",
    "outer_steps_with_a_finite_loss": "share of the outer steps of outer-training whose loss was "
    "finite, of each seed; with none, theta has learned nothing",
    "inner_steps": "of outer-training, all particles and both sides of a pair counted; evaluation "
    "is not",
}


def results(
    variants: Sequence[Variant], cells: dict[str, dict[int, Cell]], settings: Settings
) -> dict[str, Any]:
    """The content of `ablation.json`, nan where it is null there.

    Raises:
      ValueError: where no variant has a known outer loss.
    """
    outer = {v.name: final_losses(cells[v.name], list(cells[v.name]), OUTER_LOSS) for v in variants}
    # Which of several equals is named best is of no matter; that it is the lowest mean, is.
    index = lowest([losses.mean() for losses in outer.values()])
    if index is None:
        raise ValueError(f"the outer loss of none of these variants is known: {', '.join(outer)}")
    best = list(outer)[index]
    base = next((variant.name for variant in variants if variant.group == BASE), None)
    rows = [_row(variant, cells, best, base) for variant in variants]
    rows.sort(
        key=lambda row: (np.isnan(row["outer_loss"]["estimate"]), row["outer_loss"]["estimate"])
    )
    found = {
        "definitions": DEFINITIONS,
        "num_seeds": len(settings.seeds),
        "num_tasks": settings.num_tasks,
        "best": best,
        "base": base,
        "variants": rows,
        "objective": objective_comparison(cells, base),
    }
    return found | {"findings": findings(found)}


def _row(
    variant: Variant, cells: dict[str, dict[int, Cell]], best: str, base: str | None
) -> dict[str, Any]:
    """What `ablation.json` says of one variant."""
    name, own = variant.name, cells[variant.name]
    of_seeds, seeds = list(own.values()), list(own)
    outer, test = (final_losses(own, seeds, each) for each in (OUTER_LOSS, TEST_LOSS))
    to_best = difference(own, cells[best], OUTER_LOSS)
    within = None if np.isnan(to_best.low) else to_best.low <= 0
    inner_steps = np.mean([cell["inner_steps"] for cell in of_seeds], axis=0)
    seconds = np.mean([cell["seconds_so_far"] for cell in of_seeds], axis=0)
    return {
        "variant": name,
        "label": variant.label,
        "group": variant.group,
        "num_seeds": len(seeds),
        "num_outer_steps": variant.num_outer_steps,
        "outer_rate": variant.outer_rate,
        "outer_rates": {f"{rate:g}": loss for rate, loss in variant.rates.items()},
        "inner_steps": [int(cell["inner_steps"][-1]) for cell in of_seeds],
        "outer_loss": crossed_bootstrap(outer)._asdict(),
        "outer_loss_of_seeds": outer.mean(axis=1).tolist(),
        "spread_over_seeds": spread(outer),
        "difference_to_best": to_best._asdict(),
        "within_noise_of_best": name == best or within,
        **_against(None if base in (None, name) else cells[base], own),
        "held_out_test_loss": crossed_bootstrap(test)._asdict(),
        "held_out_test_loss_of_seeds": test.mean(axis=1).tolist(),
        "outer_steps_with_a_finite_loss": [_share_finite(cell) for cell in of_seeds],
        "seconds_of_outer_training": float(seconds[-1]),
        "along": along(of_seeds),
        "curve": {
            "inner_steps": inner_steps.tolist(),
            "seconds": seconds.tolist(),
            "outer_loss": [cell[OUTER_LOSS].mean(axis=1).tolist() for cell in of_seeds],
        },
    }


def _against(base: dict[int, Cell] | None, own: dict[int, Cell]) -> dict[str, Any]:
    """The base's losses less a variant's; null for the base itself, and without one."""
    if base is None:
        return {"base_less_variant": None, "at_equal_seconds": None}
    return {
        "base_less_variant": difference(base, own, OUTER_LOSS)._asdict(),
        "at_equal_seconds": at_equal_seconds(base, own),
    }


def _share_finite(cell: Cell) -> float | None:
    """Of the outer steps, those whose loss was finite; None where that was not kept."""
    return float(np.isfinite(cell["outer_loss"]).mean()) if "outer_loss" in cell else None


def objective_comparison(
    cells: dict[str, dict[int, Cell]], base: str | None
) -> dict[str, Any] | None:
    """Held-out losses after outer-training on L_train less those after L_valid, all else equal;
    None without both.
    """
    other = next((name for name in OBJECTIVES if name in cells), None)
    if base is None or other is None or TEST_LOSS not in next(iter(cells[base].values())):
        return None
    by_train, by_valid = (other, base) if OBJECTIVES[other] == "train" else (base, other)
    names = {
        "test_loss": "held_out/test",
        "final_test_loss": "held_out_final/test",
        "final_train_loss": "held_out_final/train",
    }
    seeds = [seed for seed in cells[base] if seed in cells[other]]
    found = {}
    for label, name in names.items():
        train, valid = (final_losses(cells[v], seeds, name) for v in (by_train, by_valid))
        found[label] = {
            "trained_on_train": float(train.mean()),
            "trained_on_valid": float(valid.mean()),
            "difference": crossed_bootstrap(train - valid)._asdict(),
        }
    return found


OBJECTIVES = {"train_objective": "train", "valid_objective": "valid"}
"""Variant -> what it is trained on; the base is trained on the other."""
