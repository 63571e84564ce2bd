"""What an ablation found: means, paired bootstrap intervals,
what is best and what is within noise of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learned_opt_lab.ablation.runs import Cell, Settings, Variant
from learned_opt_lab.drawing.text import markdown_cell
from learned_opt_lab.evaluation.statistics import (
    CONFIDENCE,
    NUM_RESAMPLES,
    Interval,
    interval_of,
    lowest,
)
from learned_opt_lab.results.folder import show

OUTER_LOSS = "outer_train/outer_valid"
TEST_LOSS = "held_out/test"
DEFINITIONS = {
    "outer_loss": "mean loss of fresh outer_valid batches over a whole episode from fresh weights, "
    "on tasks of the outer-training family, the same for all",
    "held_out_test_loss": "the same of test batches on tasks of the held-out family",
    "interval": "95 % percentile bootstrap over seeds and tasks, both resampled",
    "difference_to_best": "paired by seed and task; within noise where its interval reaches 0",
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
    outer, test = (
        {v.name: final_losses(cells[v.name], settings.seeds, name) for v in variants}
        for name in _FINAL
    )
    # Which of several equals is named best is of no matter; that it is the lowest mean, is.
    index = lowest([losses.mean() for losses in outer.values()])
    if index is None:
        raise ValueError(f"the outer loss of none of these variants is known: {', '.join(outer)}")
    best = list(outer)[index]
    rows = [
        _row(variant, [cells[variant.name][seed] for seed in settings.seeds], best, outer, test)
        for variant in variants
    ]
    rows.sort(
        key=lambda row: (np.isnan(row["outer_loss"]["estimate"]), row["outer_loss"]["estimate"])
    )
    found = {
        "definitions": DEFINITIONS,
        "num_seeds": len(settings.seeds),
        "num_tasks": settings.num_tasks,
        "best": best,
        "variants": rows,
        "objective": objective_comparison(cells, settings),
    }
    return found | {"findings": findings(found)}


def _row(
    variant: Variant,
    of_seeds: list[Cell],
    best: str,
    outer: dict[str, NDArray],
    test: dict[str, NDArray],
) -> dict[str, Any]:
    """What `ablation.json` says of one variant."""
    name = variant.name
    difference = crossed_bootstrap(outer[name] - outer[best])
    within = None if np.isnan(difference.low) else difference.low <= 0
    inner_steps = np.mean([cell["inner_steps"] for cell in of_seeds], axis=0)
    return {
        "variant": name,
        "label": variant.label,
        "num_outer_steps": variant.num_outer_steps,
        "inner_steps": [int(cell["inner_steps"][-1]) for cell in of_seeds],
        "outer_loss": crossed_bootstrap(outer[name])._asdict(),
        "outer_loss_of_seeds": outer[name].mean(axis=1).tolist(),
        "difference_to_best": difference._asdict(),
        "within_noise_of_best": name == best or within,
        "held_out_test_loss": crossed_bootstrap(test[name])._asdict(),
        "held_out_test_loss_of_seeds": test[name].mean(axis=1).tolist(),
        "outer_steps_with_a_finite_loss": [_share_finite(cell) for cell in of_seeds],
        "seconds_of_outer_training": float(np.mean([cell["seconds"] for cell in of_seeds])),
        "curve": {
            "inner_steps": inner_steps.tolist(),
            "outer_loss": [cell[OUTER_LOSS].mean(axis=1).tolist() for cell in of_seeds],
        },
    }


_FINAL = (OUTER_LOSS, TEST_LOSS)


def _share_finite(cell: Cell) -> float | None:
    """Of the outer steps, those whose loss was finite; None where that was not kept."""
    return float(np.isfinite(cell["outer_loss"]).mean()) if "outer_loss" in cell else None


def final_losses(cells: dict[int, Cell], seeds: Sequence[int], name: str) -> NDArray:
    """`[seeds, tasks]` of the last theta; nan where it was not measured."""
    unknown = np.full(cells[seeds[0]][OUTER_LOSS].shape, np.nan)
    return np.stack([cells[seed].get(name, unknown)[-1] for seed in seeds])


def objective_comparison(
    cells: dict[str, dict[int, Cell]], settings: Settings
) -> dict[str, Any] | None:
    """Held-out losses after outer-training on L_train less those after L_valid, all else equal;
    None without both.
    """
    if (
        not {"merged", "train_objective"} <= cells.keys()
        or TEST_LOSS not in cells["merged"][settings.seeds[0]]
    ):
        return None
    names = {
        "test_loss": "held_out/test",
        "final_test_loss": "held_out_final/test",
        "final_train_loss": "held_out_final/train",
    }
    found = {}
    for label, name in names.items():
        by_train, by_valid = (
            final_losses(cells[v], settings.seeds, name) for v in ("train_objective", "merged")
        )
        found[label] = {
            "trained_on_train": float(by_train.mean()),
            "trained_on_valid": float(by_valid.mean()),
            "difference": crossed_bootstrap(by_train - by_valid)._asdict(),
        }
    return found


def crossed_bootstrap(
    values: ArrayLike,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    seeds_are_given: bool = False,
) -> Interval:
    """Percentile bootstrap interval of the mean of `[seeds, tasks]`,
    seeds and tasks both resampled.

    Both are samples of what one would draw again; to resample cells alone would take one seed's
    tasks for independent. One seed or one task says nothing of how others differ: the interval's
    ends are nan. With `seeds_are_given` the seeds are no sample, and one will do.
    """
    values = np.asarray(values, np.float64)
    if values.shape[1] < 2 or (values.shape[0] < 2 and not seeds_are_given):
        return Interval(float(values.mean()), np.nan, np.nan)
    generator = np.random.default_rng(seed)
    rows, columns = (generator.integers(n, size=(num_resamples, n)) for n in values.shape)
    means = values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    return Interval(float(values.mean()), *interval_of(means, confidence))


def untrained(result: dict[str, Any]) -> list[tuple[dict[str, Any], int]]:
    """Rows of variants with runs in which no outer loss was finite, and how many runs."""
    counts = [(row, row["outer_steps_with_a_finite_loss"].count(0.0)) for row in result["variants"]]
    return [(row, count) for row, count in counts if count]


_VERDICTS = {True: "is", False: "is not", None: "is perhaps"}


def findings(result: dict[str, Any]) -> list[str]:
    """What the numbers say, in sentences."""
    rows = {row["variant"]: row for row in result["variants"]}
    best = rows[result["best"]]
    others = [row for row in result["variants"] if row is not best]
    near = ", ".join(row["label"] for row in others if row["within_noise_of_best"]) or "none"
    if others and all(row["within_noise_of_best"] is None for row in others):
        near = "unknown, for want of several seeds and tasks"
    lines = [
        f"Lowest outer loss: {best['label']}, {_number(best['outer_loss'])}. Within noise of it: "
        f"{near}."
    ]
    lines += [
        f"{row['label']}: in {n} of its runs no outer loss was finite."
        for row, n in untrained(result)
    ]
    if (merged := rows.get("merged")) is not None and merged is not best:
        verdict = f"{_VERDICTS[merged['within_noise_of_best']]} within noise of best"
        lines.append(
            f"The merged estimator with the curriculum {verdict}: "
            f"{_number(merged['difference_to_best'])} above it."
        )
    elif merged is not None:
        lines.append("The merged estimator with the curriculum is best.")
    if (objective := result["objective"]) is not None:
        for name, label in (("test_loss", "over the episode"), ("final_test_loss", "at its end")):
            difference = objective[name]["difference"]
            verdict = (
                "lower"
                if difference["low"] > 0
                else "higher"
                if difference["high"] < 0
                else "no different"
            )
            verdict = "of unknown sign" if np.isnan(difference["low"]) else verdict
            lines.append(
                f"Held-out test loss {label} after training on L_valid is {verdict}: "
                f"{objective[name]['trained_on_valid']:.4g} against "
                f"{objective[name]['trained_on_train']:.4g} after "
                f"L_train; difference {_number(difference)}."
            )
    return lines


def table(result: dict[str, Any]) -> str:
    """`table.md`."""
    head = [
        "variant",
        "outer steps",
        "outer loss",
        "above the best",
        "within noise",
        "held-out test loss",
        "s a seed",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in result["variants"]:
        is_best = row["variant"] == result["best"]
        cells = [
            markdown_cell(row["label"]),
            str(row["num_outer_steps"]),
            _number(row["outer_loss"]),
            "best" if is_best else _number(row["difference_to_best"]),
            {True: "yes", False: "no", None: "unknown"}[row["within_noise_of_best"]],
            _number(row["held_out_test_loss"]),
            show(row["seconds_of_outer_training"], 3),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    counts = f"{result['num_seeds']} seeds, {result['num_tasks']} tasks"
    about = f"{counts}; [95 % bootstrap interval over both]"
    return "\n".join([*lines, "", about, "", *(f"- {line}" for line in result["findings"]), ""])


def _number(interval: dict[str, float]) -> str:
    """An estimate with its interval; words where there is none of the one or the other."""
    if np.isnan(interval["estimate"]):
        return "unknown"
    if np.isnan(interval["low"]):
        return f"{show(interval['estimate'])} [unknown]"
    return f"{show(interval['estimate'])} [{show(interval['low'])}, {show(interval['high'])}]"
