"""Charts of an evaluation, made from `report.json` and `curves.npz` alone.

The reference is black and dashed everywhere, every other optimizer keeps one colour.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.drawing.charts import Chart, Spec, Styles, lines, spec, styles
from learned_opt_lab.drawing.text import plain
from learned_opt_lab.evaluation.measures import smooth
from learned_opt_lab.evaluation.page.board_charts import (
    along_axis,
    descent,
    overview,
    profile,
    time_to_target,
)
from learned_opt_lab.evaluation.page.boards import boards_of
from learned_opt_lab.evaluation.page.marks import band, hover, known

_MOST_POINTS = 200
"""Of a curve: more than the pixels it has would only make the page heavier."""


def suite_charts(report: dict[str, Any], curves: dict[str, NDArray]) -> dict[str, Chart]:
    """All charts of an evaluation by name: of each board, then two of all tasks and two of each."""
    look = styles([o["label"] for o in report["optimizers"]], report["reference"])
    charts = {}
    for board in boards_of(report):
        charts[f"{board.name}overview"] = overview(board, look)
        charts[f"{board.name}profile"] = profile(board, look)
        if board.content.get("time_to_target"):
            charts[f"{board.name}time_to_target"] = time_to_target(board, look)
    if report["suite"]["axis"]:
        charts["axis"] = along_axis(report, look)
    for unit in report["descent"]:
        charts[f"{unit}_of_all"] = descent(report["descent"], unit, look)
    for task in report["tasks"]:
        data = curve_rows(report, curves, task, look)
        for unit in ("steps", "seconds"):
            charts[f"{task['name']}_{unit}"] = task_curves(task, data, unit, look)
    return charts


def curve_rows(
    report: dict[str, Any], curves: dict[str, NDArray], task: dict[str, Any], look: Styles
) -> list[dict[str, Any]]:
    """Smoothed test losses of a task: mean, lowest and highest of the runs at each point."""
    name, rows = task["name"], []
    for label, shown in look.names.items():
        losses = smooth(curves[f"{name}/{label}/test/loss"], task["loss_cap"])
        steps, seconds = curves[f"{name}/steps"], curves[f"{name}/{label}/seconds"]
        picked = np.unique(
            np.linspace(0, len(steps) - 1, min(len(steps), _MOST_POINTS)).round().astype(int)
        )
        for i in picked.tolist():
            runs = losses[:, i]
            rows.append(
                {
                    "name": shown,
                    "steps": int(steps[i]),
                    "seconds": known(seconds[i]),
                    "estimate": known(runs.mean()),
                    "low": known(runs.min()),
                    "high": known(runs.max()),
                }
            )
    return rows


def task_curves(task: dict[str, Any], data: list[dict[str, Any]], unit: str, look: Styles) -> Chart:
    """Test loss of a task over steps or seconds: mean of the runs, and their range."""
    title = "inner step" if unit == "steps" else "seconds of training"
    x = {"field": unit, "type": "quantitative", "title": title, "scale": {"nice": False}}
    y = {
        "field": "estimate",
        "type": "quantitative",
        "title": "test loss",
        "scale": _loss_scale(data),
        "axis": {"tickCount": 6, "format": "~g"},
    }
    layers = [
        band(x, y, look),
        lines(x, y, look, point=len(data) == len(look.names)),
        hover(x, y, title, "test loss"),
    ]
    where = "steps" if unit == "steps" else "wall-clock, one run alone, compilation left out"
    caption = f"{plain(task['description'])}: mean test loss of the runs, smoothed, over {where}."
    return Chart(spec(layers), data, caption)


def _loss_scale(data: list[dict[str, Any]]) -> Spec:
    """Logarithmic where all is positive.

    It ends little above the start: diverged runs sit at the cap; the picture is the others'.
    """
    lowest = min((row["low"] for row in data if row["low"] is not None), default=None)
    start = next((row["estimate"] for row in data if row["steps"] == 0), None)
    if lowest is None or start is None:
        return {"zero": False}
    high = start + 0.3 * abs(start)
    if lowest > 0:
        low = max(lowest * 0.8, start * 1e-6)
        return {"type": "log", "domain": [low, high], "nice": False, "clamp": True}
    return {"domain": [lowest, max(high, lowest + 1e-9)], "nice": False, "zero": False}
