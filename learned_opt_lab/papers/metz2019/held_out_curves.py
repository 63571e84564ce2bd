"""Inner training on held-out tasks, in steps and in wall-clock,
and task by task (arXiv 1810.10180, figure 6).

    learned-opt reproduce held_out_curves --out DIR

Learned optimizers are outer-trained on L_train and on L_valid, several seeds each; the seed shown
is picked by its outer-training loss. They run on tasks of classes they have never seen, untuned.
Adam, RMSProp and momentum have 11 rates, tried on each of these very tasks; Adam with eight
hyperparameters has one configuration for all, found on outer-training tasks. Each is tuned twice:
against the training loss where that is compared, and against the validation loss. Some minutes on
two cores; `--scale paper` is ImageNet.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from learned_opt.disk import files
from learned_opt_lab.ablation.results import crossed_bootstrap
from learned_opt_lab.drawing.axes import known, legend, log_scale, quantiles, set_limits
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
)
from learned_opt_lab.drawing.training_figures import label_ends, save, tidy
from learned_opt_lab.evaluation.held_out import LOSS_CAP
from learned_opt_lab.evaluation.measures import smooth, steps_to
from learned_opt_lab.papers.metz2019 import outer_trained, outer_trained_evaluation
from learned_opt_lab.papers.metz2019.outer_trained_evaluation import Evaluator, evaluator
from learned_opt_lab.papers.metz2019.outer_trained_setup import (
    OBJECTIVES,
    OVER_TASKS,
    OWN_SPLIT,
    RATES_TUNED,
    Config,
    Families,
    families,
    picking_key,
    reporting_key,
    resolve,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import SeedsResult

STYLES = {
    "validation": (BLUE, "-", 2.4, "learned, L_valid"),
    "training": (ORANGE, "-", 2.0, "learned, L_train"),
    "adam": (BLACK, "--", 1.6, "Adam, 11 rates"),
    "rmsprop": (GREEN, "--", 1.2, "RMSProp, 11 rates"),
    "momentum": (RED, "--", 1.2, "momentum, 11 rates"),
    OVER_TASKS: (PURPLE, ":", 2.0, "Adam, 8 hyperp."),
}
Losses = dict[str, dict[str, np.ndarray]]
"""Optimizer -> split -> `[tasks, points]`. A baseline's training loss is that of the configuration
which is tuned against it; its other losses are those of the one tuned against the validation loss.
"""
BASELINES = (*RATES_TUNED, OVER_TASKS)


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json`, `curves.npz` and `held_out_curves.png` to `out`;
    returns what is in the first.
    """
    given, config = config, resolve(config)
    made = families(config)
    cells = Cells(out, __name__, given, SeedsResult, data=made.data)
    picked = outer_trained.outer_train_and_pick(config, made, cells)
    on = evaluator(made.held_out, reporting_key(config), config.num_tasks, config.num_steps)
    evaluate = on.learned(config)
    held_out = cells.within("held_out")
    seeds = {o: held_out(o, lambda o=o: evaluate(picked[o].thetas)) for o in OBJECTIVES}
    losses = {o: {split: v[picked[o].index] for split, v in seeds[o].items()} for o in OBJECTIVES}
    tuned, chosen = _baselines(config, made, on, held_out)
    losses |= tuned
    theta = picked["validation"].theta
    timed = {name: each["timed"] for name, each in chosen.items()}
    seconds = held_out(
        "seconds", lambda: outer_trained_evaluation.seconds_per_step(config, on, theta, timed)
    )
    rows = {name: _row(name, losses, seconds, on) for name in losses}
    result = {
        "scale": config.scale,
        "num_tasks": config.num_tasks,
        "num_steps": config.num_steps,
        "adam8_configurations": config.budget,
        "outer_training": {objective: picked[objective].record() for objective in OBJECTIVES},
        "optimizers": rows,
        "chosen": chosen,
        "differences": {name: _differences(losses, name) for name in (*BASELINES, "training")},
        "training_differences": {
            name: _differences(losses, name, "train", "training") for name in BASELINES
        },
        "validation_against_training_objective": _objectives(seeds),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    files.write_npz(
        out / "curves.npz",
        {f"{name}/{split}": v for name, c in losses.items() for split, v in c.items()},
    )
    save(figure_of(losses, result, on.every), out / "held_out_curves.png")
    return result


def _baselines(
    config: Config, made: Families, on: Evaluator, cells: Cells
) -> tuple[Losses, dict[str, dict[str, Any]]]:
    """Losses of the baselines on the held-out tasks, and what was chosen for each:
    by objective, and one configuration whose steps are timed.
    """
    losses: Losses = {}
    chosen: dict[str, dict[str, Any]] = {}
    for name in RATES_TUNED:
        searched = on.searched(name, config.budget, config.seed, cells)
        losses[name] = _each_by_its_own(lambda o, s=searched: s.of_runs(OWN_SPLIT[o]))
        chosen[name] = {
            o: searched.at(searched.best_of_runs(split)) for o, split in OWN_SPLIT.items()
        } | {"timed": searched.at(searched.best_of_all("outer_valid"))}
    before = evaluator(
        made.outer_train, picking_key(config), config.num_tasks, config.num_steps
    ).searched(OVER_TASKS, config.budget, config.seed, cells.within("outer_train"))
    places = np.array([before.best_of_all(split) for split in OWN_SPLIT.values()])
    both = {name: values[places] for name, values in before.configurations.items()}
    found = on.given(OVER_TASKS, both, cells, OVER_TASKS)
    by_objective = {o: {split: v[i] for split, v in found.items()} for i, o in enumerate(OWN_SPLIT)}
    losses[OVER_TASKS] = _each_by_its_own(by_objective.__getitem__)
    chosen[OVER_TASKS] = {o: before.at(int(i)) for o, i in zip(OWN_SPLIT, places, strict=True)}
    chosen[OVER_TASKS]["timed"] = chosen[OVER_TASKS]["validation"]
    return losses, chosen


def _each_by_its_own(by_objective: Callable[[str], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Training losses of what is tuned against them, and all others of what is not."""
    return by_objective("validation") | {"train": by_objective("training")["train"]}


def _row(name: str, losses, seconds: dict[str, float], on: Evaluator) -> dict[str, Any]:
    """One optimizer: means, and steps and seconds to the best smoothed validation loss
    of Adam on each task.
    """
    curves = losses[name]
    targets = smooth(losses["adam"]["outer_valid"], LOSS_CAP).min(axis=-1)
    pairs = list(zip(curves["outer_valid"], losses["adam"]["outer_valid"], targets, strict=True))
    own, of_adam = (
        np.array([steps_to(pair[i][None], pair[2], on.every, LOSS_CAP)[0] for pair in pairs])
        for i in (0, 1)
    )
    per_step = seconds["learned" if name in OBJECTIVES else name]
    reached = np.isfinite(own)
    ratio = np.where(reached, own, np.inf) / np.maximum(of_adam, on.every)
    return {
        "test_loss": float(curves["test"][:, 1:].mean()),
        "final_test_loss": float(_tail(curves["test"]).mean()),
        "final_validation_loss": float(_tail(curves["outer_valid"]).mean()),
        "final_train_loss": float(_tail(curves["train"]).mean()),
        "seconds_per_step": per_step,
        "tasks_reaching_adams_best": int(reached.sum()),
        "median_steps_ratio": _finite(np.median(ratio)),
        "median_seconds_ratio": _finite(np.median(ratio) * per_step / seconds["adam"]),
        "diverged": int((_tail(curves["test"]) > 2 * curves["test"][:, 0]).sum()),
    }


def _tail(curves: np.ndarray) -> np.ndarray:
    return curves[..., -max(1, curves.shape[-1] // 10) :].mean(axis=-1)


def _differences(
    losses, name: str, split: str = "test", objective: str = "validation"
) -> dict[str, Any]:
    """Episode-mean loss of another optimizer less that of the learned one with this objective,
    task by task (figure 6c; on training losses 6a).
    """
    values = (losses[name][split] - losses[objective][split])[:, 1:].mean(axis=1)
    return {
        **crossed_bootstrap(values[None], seeds_are_given=True)._asdict(),
        "share_of_tasks_learned_is_lower": float((values > 0).mean()),
        "values": values.tolist(),
    }


def _objectives(seeds) -> dict[str, Any]:
    """Held-out test loss after outer-training on L_train less that after L_valid,
    over all seeds and tasks.
    """
    found = {}
    for label, mean in (("episode", lambda x: x[..., 1:].mean(axis=-1)), ("final", _tail)):
        by_train, by_valid = (
            mean(seeds[objective]["test"]) for objective in ("training", "validation")
        )
        found[label] = {
            "training": float(by_train.mean()),
            "validation": float(by_valid.mean()),
            "difference": crossed_bootstrap(by_train - by_valid)._asdict(),
        }
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def figure_of(losses: Losses, result: dict[str, Any], every: int) -> Figure:
    """Means with middle halves: training and test loss over steps, test loss over seconds; and the
    differences to Adam with eight hyperparameters, task by task.

    Args:
      losses: of each optimizer.
      result: what is in `result.json`.
      every: steps between two points of a curve.
    """
    figure = Figure(figsize=(13, 8.6), dpi=120, layout="constrained")
    *panels, tasks = figure.subplots(2, 2).ravel()
    for axes, (split, in_seconds) in zip(
        panels, (("train", False), ("test", False), ("test", True)), strict=True
    ):
        _draw_curves(axes, losses, split, result["optimizers"] if in_seconds else None, every)
    shares, both = [], {}
    for objective, field, what in (
        ("validation", "differences", "test loss, L_valid"),
        ("training", "training_differences", "training loss, L_train"),
    ):
        shown = result[field][OVER_TASKS]
        values = known(shown["values"])
        both[STYLES[objective][0], what] = values[np.isfinite(values)]
        shares.append(f"{100 * shown['share_of_tasks_learned_is_lower']:.0f} %")
    bins = np.histogram_bin_edges(np.concatenate(list(both.values())), 16)
    for (color, what), values in both.items():
        tasks.hist(values, bins=bins, color=color, alpha=0.55, label=what)
    tasks.yaxis.set_major_locator(MaxNLocator(integer=True))
    tasks.axvline(0, color=GREY, linewidth=1)
    tasks.set(title=f"learned is lower on {' and '.join(shares)} of tasks", ylabel="tasks")
    tasks.set_xlabel("Adam, 8 hyperparameters, less learned: episode mean")
    legend(tasks)
    tidy(tasks)
    return figure


def _draw_curves(
    axes: Axes, losses: Losses, split: str, timed: dict[str, Any] | None, every: int
) -> None:
    """Every optimizer's loss of a split; over time where rows with seconds a step are given."""
    ends = []
    for name, curves in losses.items():
        color, line, width, text = STYLES[name]
        per_step = 1.0 if timed is None else float(known(timed[name]["seconds_per_step"]))
        position = np.arange(curves[split].shape[1]) * every * per_step
        low, high = quantiles(curves[split], [0.25, 0.75])
        mean = known(curves[split]).mean(axis=0)
        axes.fill_between(position, low, high, color=color, alpha=0.1, linewidth=0)
        axes.plot(position, mean, color=color, linestyle=line, linewidth=width)
        ends.append((float(mean[-1]), text, color))
    what = "training" if split == "train" else split
    axes.set(xlabel="inner step" if timed is None else "time of one run alone")
    axes.set(ylabel=f"held-out {what} loss, mean and middle half")
    # Single runs end at a loss of 0, their means do not.
    means = [known(curves[split]).mean(axis=0) for curves in losses.values()]
    log_scale(axes, "y", *means)
    set_limits(axes, "y", low=0.5 * np.fmin.reduce(np.concatenate(means)))
    set_limits(axes, "x", low=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if timed is None else EngFormatter("s"))
    tidy(axes)
    label_ends(axes, ends)
