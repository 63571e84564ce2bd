"""Fig 3 and Fig 4 of arXiv 1910.08525, from what `image_classification_schedules` measured."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend_outside, log_scale, set_limits
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
)
from learned_opt_lab.drawing.text import format_number
from learned_opt_lab.drawing.training_figures import running_median, save

STYLES = {
    "constant": {"color": GREY, "linestyle": ":"},
    "exponential": {"color": ORANGE, "linestyle": "--"},
    "staircase": {"color": PURPLE, "linestyle": "--"},
    "SGDR": {"color": GREEN, "linestyle": "--"},
    "HD": {"color": RED},
    "RTHO": {"color": BLUE},
    "MARTHE": {"color": BLACK, "linewidth": 2.4},
    "MARTHE untuned": {"color": SKY, "linewidth": 1.4, "zorder": 1.5},
}
_LEAST_RATE = 1e-7
"""Less is drawn as this."""
TITLES = {"vgg_sgdm": "VGG, SGD + momentum", "resnet_adam": "ResNet, Adam"}


def draw(
    name: str, result: dict[str, Any], curves: dict[str, dict[str, np.ndarray]], path: pathlib.Path
) -> None:
    """Test accuracy and loss, means over seeds with a band of one deviation,
    and one seed's learning rate.
    """
    figure = Figure(figsize=(15, 4.8), dpi=140, layout="constrained")
    accuracy, loss, rate = figure.subplots(1, 3)
    for method, runs in curves.items():
        points = runs["test_accuracy"].shape[1]
        steps = np.arange(1, points + 1) * runs["rates"].shape[1] / points
        label = f"{method}, {format_number(100 * result['methods'][method]['accuracy'])} %"
        _draw_mean(accuracy, steps, 100 * runs["test_accuracy"], label, STYLES[method])
        _draw_mean(loss, steps, runs["test_loss"], method, STYLES[method])
        # A rate that jumps from step to step would hide all others.
        middle = running_median(known(runs["rates"][0]), 1 + 2 * (runs["rates"].shape[1] // 60))
        rate.plot(np.maximum(middle, _LEAST_RATE), label=method, **STYLES[method])
    rows = result["methods"].values()
    best = 100 * np.fmax.reduce(known([row["accuracy"] for row in rows]))
    lowest = np.fmin.reduce(known([row["test_loss"] for row in rows]))
    accuracy.set(title=f"{TITLES[name]}: test accuracy, %", xlabel="step")
    set_limits(accuracy, "y", best - 15, best + 2)
    # Below the panels, where it covers no curve.
    legend_outside(figure, *accuracy.get_legend_handles_labels(), ncols=4)
    loss.set(title="Test loss", xlabel="step")
    set_limits(loss, "y", 0.9 * lowest, 2.5 * lowest)
    rate.set(title="Learning rate, seed 0, running median", xlabel="step")
    log_scale(rate, "y", *(line.get_ydata() for line in rate.lines))
    save(figure, path)


def _draw_mean(
    axes, steps: np.ndarray, values: np.ndarray, label: str, style: dict[str, Any]
) -> None:
    values = known(values)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    axes.plot(steps, mean, label=label, **style)
    axes.fill_between(
        steps, mean - deviation, mean + deviation, color=style["color"], alpha=0.12, linewidth=0
    )
