"""What an ablation found: means, paired bootstrap intervals, what is best and what is within noise of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.statistics import CONFIDENCE, NUM_RESAMPLES, Interval
from experiments.ablation import Cell, Settings, Variant

OUTER_LOSS = "outer_train/outer_valid"
TEST_LOSS = "held_out/test"
DEFINITIONS = {
    "outer_loss": "mean loss of fresh outer_valid batches over a whole episode from fresh weights, on tasks of the "
    "outer-training family, the same for all",
    "held_out_test_loss": "the same of test batches on tasks of the held-out family",
    "interval": "95 % percentile bootstrap over seeds and tasks, both resampled",
    "difference_to_best": "paired by seed and task; within noise where its interval reaches 0",
    "inner_steps": "of outer-training, all particles and both sides of a pair counted; evaluation is not",
}


def results(variants: Sequence[Variant], cells: dict[str, dict[int, Cell]], settings: Settings) -> dict[str, Any]:
    """The content of `ablation.json`."""
    outer, test = ({v.name: final_losses(cells[v.name], settings.seeds, name) for v in variants} for name in _FINAL)
    # Which of several equals is named best is of no matter; that it is the lowest mean, is.
    best = min(outer, key=lambda name: outer[name].mean())
    rows = []
    for variant in variants:
        name, of_seeds = variant.name, [cells[variant.name][seed] for seed in settings.seeds]
        difference = crossed_bootstrap(outer[name] - outer[best])
        rows.append(
            {
                "variant": name,
                "label": variant.label,
                "num_outer_steps": variant.num_outer_steps,
                "inner_steps": [int(cell["inner_steps"][-1]) for cell in of_seeds],
                "outer_loss": crossed_bootstrap(outer[name])._asdict(),
                "outer_loss_of_seeds": outer[name].mean(axis=1).tolist(),
                "difference_to_best": difference._asdict(),
                "within_noise_of_best": difference.low <= 0,
                "held_out_test_loss": crossed_bootstrap(test[name])._asdict(),
                "held_out_test_loss_of_seeds": test[name].mean(axis=1).tolist(),
                "seconds_of_outer_training": float(np.mean([cell["seconds"] for cell in of_seeds])),
                "curve": {
                    "inner_steps": np.mean([cell["inner_steps"] for cell in of_seeds], axis=0).tolist(),
                    "outer_loss": [cell[OUTER_LOSS].mean(axis=1).tolist() for cell in of_seeds],
                },
            }
        )
    rows.sort(key=lambda row: row["outer_loss"]["estimate"])
    found = {
        "definitions": DEFINITIONS,
        "num_seeds": len(settings.seeds),
        "num_tasks": settings.num_tasks,
        "best": best,
        "variants": rows,
        "objective": objective_comparison(cells, settings),
    }
    return found | {"findings": findings(found)}


_FINAL = (OUTER_LOSS, TEST_LOSS)


def final_losses(cells: dict[int, Cell], seeds: Sequence[int], name: str) -> NDArray:
    """`[seeds, tasks]` of the last theta."""
    return np.stack([cells[seed][name][-1] for seed in seeds])


def objective_comparison(cells: dict[str, dict[int, Cell]], settings: Settings) -> dict[str, Any] | None:
    """Held-out losses after outer-training on L_train less those after L_valid, all else equal; None without both."""
    if not {"merged", "train_objective"} <= cells.keys():
        return None
    names = {
        "test_loss": "held_out/test",
        "final_test_loss": "held_out_final/test",
        "final_train_loss": "held_out_final/train",
    }
    found = {}
    for label, name in names.items():
        by_train, by_valid = (final_losses(cells[v], settings.seeds, name) for v in ("train_objective", "merged"))
        found[label] = {
            "trained_on_train": float(by_train.mean()),
            "trained_on_valid": float(by_valid.mean()),
            "difference": crossed_bootstrap(by_train - by_valid)._asdict(),
        }
    return found


def crossed_bootstrap(
    values: ArrayLike, num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of `[seeds, tasks]`, seeds and tasks both resampled.

    Both are samples of what one would draw again; to resample cells alone would take one seed's tasks for independent.
    """
    values = np.asarray(values, np.float64)
    generator = np.random.default_rng(seed)
    rows, columns = (generator.integers(n, size=(num_resamples, n)) for n in values.shape)
    means = values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def findings(result: dict[str, Any]) -> list[str]:
    """What the numbers say, in sentences."""
    rows = {row["variant"]: row for row in result["variants"]}
    best = rows[result["best"]]
    near = [row["label"] for row in result["variants"] if row["within_noise_of_best"] and row is not best]
    lines = [
        f"Lowest outer loss: {best['label']}, {_number(best['outer_loss'])}. "
        f"Within noise of it: {', '.join(near) or 'none'}."
    ]
    if (merged := rows.get("merged")) is not None and merged is not best:
        verdict = "within noise of best" if merged["within_noise_of_best"] else "not within noise of best"
        lines.append(
            f"The merged estimator with the curriculum is {verdict}: {_number(merged['difference_to_best'])} above it."
        )
    elif merged is not None:
        lines.append("The merged estimator with the curriculum is best.")
    if (objective := result["objective"]) is not None:
        for name, label in (("test_loss", "over the episode"), ("final_test_loss", "at its end")):
            difference = objective[name]["difference"]
            verdict = "lower" if difference["low"] > 0 else "higher" if difference["high"] < 0 else "no different"
            lines.append(
                f"Held-out test loss {label} after training on L_valid is {verdict}: "
                f"{objective[name]['trained_on_valid']:.4g} against {objective[name]['trained_on_train']:.4g} after "
                f"L_train; difference {_number(difference)}."
            )
    return lines


def table(result: dict[str, Any]) -> str:
    """`table.md`."""
    head = ["variant", "outer steps", "outer loss", "above the best", "within noise", "held-out test loss", "s a seed"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in result["variants"]:
        is_best = row["variant"] == result["best"]
        cells = [
            row["label"],
            str(row["num_outer_steps"]),
            _number(row["outer_loss"]),
            "best" if is_best else _number(row["difference_to_best"]),
            "yes" if row["within_noise_of_best"] else "no",
            _number(row["held_out_test_loss"]),
            f"{row['seconds_of_outer_training']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    about = f"{result['num_seeds']} seeds, {result['num_tasks']} tasks; [95 % bootstrap interval over both]"
    return "\n".join([*lines, "", about, "", *(f"- {line}" for line in result["findings"]), ""])


def _number(interval: dict[str, float]) -> str:
    return f"{interval['estimate']:.4g} [{interval['low']:.4g}, {interval['high']:.4g}]"
