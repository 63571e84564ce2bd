"""Figures of an evaluation, drawn from `report.json` and `curves.npz` alone.

Each figure is small enough to be read on a phone without zooming. The tuned reference is black and
dashed everywhere, every other optimizer keeps one colour.
"""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from learned_opt_lab.drawing.axes import known, legend, log_scale, set_limits
from learned_opt_lab.drawing.text import UNKNOWN, figure_label
from learned_opt_lab.drawing.training_figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    label_ends,
    tidy,
)
from learned_opt_lab.evaluation.measures import WORST_SCORE, cap_losses, smooth

_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
_LINES = ("-", "-.", ":")
TEXT_COLORS = {ORANGE: "#8F6300", SKY: "#1F6F9E", PURPLE: "#9C4F7A", GREY: "#666666"}
"""Darker shades for words in the colours that are too light on white."""
_SIZE = (5.2, 3.5)


class Captioned(NamedTuple):
    """A figure and what it shows in one sentence."""

    figure: Figure
    caption: str


def suite_figures(report: dict[str, Any], curves: dict[str, NDArray]) -> dict[str, Captioned]:
    """All figures of an evaluation, name -> figure with caption;
    overview first, then two for each task.
    """
    styles = _styles(report)
    figures = {
        "overview": overview(report, styles),
        "profile": profile(report, styles),
    }
    if report["suite"]["axis"]:
        figures["axis"] = along_axis(report, styles)
    for task in report["tasks"]:
        for unit in ("steps", "seconds"):
            figures[f"{task['name']}_{unit}"] = task_curves(report, curves, task, unit, styles)
    return figures


def overview(report: dict[str, Any], styles: dict[str, dict]) -> Captioned:
    """Interquartile mean of the normalized scores with its interval, best on top."""
    optimizers = report["optimizers"]
    figure, axes = _new((_SIZE[0], 1.3 + 0.36 * len(optimizers)))
    for place, optimizer in enumerate(optimizers):
        color = styles[optimizer["label"]]["color"]
        low, middle, high = _bounds(optimizer["normalized"])
        axes.plot([low, high], [place, place], color=color, linewidth=3, alpha=0.5)
        axes.plot(middle, place, "o", color=color, markersize=7)
        if np.isnan(middle):
            axes.text(0, place, f" {UNKNOWN} ", va="center", ha="left")
    axes.set_yticks(
        range(len(optimizers)), [figure_label(optimizer["label"]) for optimizer in optimizers]
    )
    axes.set_ylim(len(optimizers) - 0.5, -0.5)
    axes.axvline(0, color=BLACK, linewidth=1, linestyle="--")
    _score_axis(axes)
    set_limits(axes, "x", high=1.25 * WORST_SCORE)
    return Captioned(
        figure,
        "Interquartile mean over all tasks and runs, with its 95 % interval. Further left is "
        "better.",
    )


def profile(report: dict[str, Any], styles: dict[str, dict]) -> Captioned:
    """Performance profiles: share of runs at or below each score."""
    figure, axes = _new()
    profiles = report["performance_profile"]
    thresholds = known(profiles["thresholds"])
    for label, shares in profiles["shares"].items():
        axes.step(
            thresholds, known(shares), where="post", **styles[label], label=figure_label(label)
        )
    _score_axis(axes)
    axes.set(ylabel="share of runs at or below", ylim=(0, 1.02))
    set_limits(axes, "x", 1.1 * thresholds[0], 1.1 * thresholds[-1])
    legend(axes, loc="upper left")
    return Captioned(
        figure,
        "Performance profile: a line further left and higher is better; diverged runs stand at 2.",
    )


def along_axis(report: dict[str, Any], styles: dict[str, dict]) -> Captioned:
    """Normalized score of every optimizer along the axis of a per-axis suite."""
    figure, axes = _new()
    values = [task["axis_value"] for task in report["tasks"]]
    numeric = all(isinstance(value, int | float) and np.isfinite(value) for value in values)
    positions = values if numeric else range(len(values))
    ends = []
    for label, style in styles.items():
        scores = [row["normalized"] for row in report["rows"] if row["optimizer"] == label]
        low, middle, high = np.transpose([_bounds(score) for score in scores])
        axes.fill_between(positions, low, high, color=style["color"], alpha=0.13)
        axes.plot(positions, middle, marker="o", markersize=4, **style)
        ends.append((float(middle[-1]), label, TEXT_COLORS.get(style["color"], style["color"])))
    if numeric:
        log_scale(axes, "x", values)
        axes.minorticks_off()
    axes.set_xticks(list(positions), [figure_label(value, limit=12) for value in values])
    axes.set(xlabel=figure_label(report["suite"]["axis"]), ylabel="normalized score")
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.margins(x=0.02)
    label_ends(axes, ends)
    return Captioned(
        figure, "Where generalization ends: 0 is the tuned reference, 1 (dotted) is no progress."
    )


def task_curves(
    report: dict[str, Any],
    curves: dict[str, NDArray],
    task: dict[str, Any],
    unit: str,
    styles: dict[str, dict],
) -> Captioned:
    """Smoothed test loss of a task over steps or seconds: mean of the runs, and their range."""
    figure, axes = _new()
    name, ends, lowest, last = task["name"], [], np.inf, 0.0
    for label, style in styles.items():
        losses = smooth(curves[f"{name}/{label}/test/loss"], task["loss_cap"])
        position = known(
            curves[f"{name}/steps"] if unit == "steps" else curves[f"{name}/{label}/seconds"]
        )
        mean, color = losses.mean(axis=0), style["color"]
        axes.fill_between(
            position, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.13, linewidth=0
        )
        axes.plot(position, mean, **style, marker="o" if len(mean) == 1 else None)
        lowest, last = min(lowest, float(losses.min())), np.fmax(last, position[-1])
        ends.append((float(position[-1]), float(mean[-1]), label, TEXT_COLORS.get(color, color)))
    start = float(
        cap_losses(curves[f"{name}/{report['reference']}/test/loss"], task["loss_cap"])[:, 0].mean()
    )
    # Diverged runs sit at the cap; the picture belongs to the others.
    set_limits(axes, "y", high=start + 0.3 * abs(start))
    if lowest > 0:
        axes.set_yscale("log")
        set_limits(axes, "y", low=max(lowest * 0.8, start * 1e-6))
    set_limits(axes, "x", 0, last)
    axes.set(ylabel="test loss", xlabel="inner step" if unit == "steps" else "seconds of training")
    if unit == "steps":
        label_ends(axes, [end[1:] for end in ends])
    else:  # Lines end at different times: each is named where it ends.
        style = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        for x, y, label, color in ends:
            if np.isfinite(x):
                at = (x, np.clip(y, *axes.get_ylim()))
                axes.annotate(figure_label(label, limit=28), at, (4, 0), color=color, **style)
    where = "steps" if unit == "steps" else "wall-clock, one run alone, compilation left out"
    return Captioned(figure, f"{task['description']}: test loss over {where}.")


def _styles(report: dict[str, Any]) -> dict[str, dict]:
    """Optimizer -> line style, the best first so that the few
    that matter get the clearest colours.
    """
    others = [o["label"] for o in report["optimizers"] if o["label"] != report["reference"]]
    styles = {
        label: {
            "color": _COLORS[i % len(_COLORS)],
            "linestyle": _LINES[i // len(_COLORS) % len(_LINES)],
            "linewidth": 1.8,
        }
        for i, label in enumerate(others)
    }
    return {**styles, report["reference"]: {"color": BLACK, "linestyle": "--", "linewidth": 1.6}}


def _bounds(interval: dict[str, float | None]) -> NDArray[np.float64]:
    """Low end, estimate and high end, nan where unknown."""
    return known([interval[name] for name in ("low", "estimate", "high")])


def _score_axis(axes: Axes) -> None:
    """Linear near the reference and logarithmic beyond:
    late in training, small differences are what there is.
    """
    axes.set_xscale("symlog", linthresh=0.01)
    ticks = (-1, -0.1, -0.01, 0, 0.01, 0.1, 1)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("normalized score: 0 is the tuned reference, 1 no progress")


def _new(size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes
