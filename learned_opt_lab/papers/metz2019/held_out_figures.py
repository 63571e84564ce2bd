"""Figure 6 of arXiv 1810.10180: curves of held-out tasks, and differences task by task."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

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
from learned_opt_lab.drawing.training_figures import label_ends, tidy
from learned_opt_lab.papers.metz2019.outer_trained_setup import OVER_TASKS

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
    lowest = min((mean[np.isfinite(mean)].min(initial=np.inf) for mean in means), default=np.inf)
    set_limits(axes, "y", low=0.5 * lowest if np.isfinite(lowest) else None)
    set_limits(axes, "x", low=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if timed is None else EngFormatter("s"))
    tidy(axes)
    label_ends(axes, ends)
