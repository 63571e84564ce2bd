"""Charts of an evaluation, made from `report.json` and `curves.npz` alone.

The reference is black and dashed everywhere, every other optimizer keeps one colour.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learned_opt_lab.drawing.charts import (
    COLORS,
    Chart,
    Spec,
    Styles,
    lines,
    nearest,
    spec,
    styles,
)
from learned_opt_lab.drawing.text import UNKNOWN, plain
from learned_opt_lab.evaluation.measures import WORST_SCORE, smooth
from learned_opt_lab.evaluation.page.boards import Board, boards_of

_MOST_POINTS = 200
"""Of a curve: more than the pixels it has would only make the page heavier."""
_LARGEST = 1e100
_SCORE = "normalized score: 0 is the reference, 1 no progress"
_OVERVIEW = (
    "Interquartile mean over all tasks and runs, with its 95 % interval. Further left is better."
)
_TICKS = (-1, -0.1, -0.01, 0, 0.01, 0.1, 1)


def suite_charts(report: dict[str, Any], curves: dict[str, NDArray]) -> dict[str, Chart]:
    """All charts of an evaluation by name: those of each board, then two for each task."""
    look = styles([o["label"] for o in report["optimizers"]], report["reference"])
    charts = {}
    for board in boards_of(report):
        charts[f"{board.name}overview"] = overview(board, look)
        charts[f"{board.name}profile"] = profile(board, look)
        if board.content.get("time_to_target"):
            charts[f"{board.name}time_to_target"] = time_to_target(board, look)
    if report["suite"]["axis"]:
        charts["axis"] = along_axis(report, look)
    for task in report["tasks"]:
        data = curve_rows(report, curves, task, look)
        for unit in ("steps", "seconds"):
            charts[f"{task['name']}_{unit}"] = task_curves(task, data, unit, look)
    return charts


def overview(board: Board, look: Styles) -> Chart:
    """Interquartile mean of the normalized scores with its interval, best on top."""
    data = [
        {"name": look.names[o["label"]], "rank": o["rank"], **_interval(o["normalized"])}
        for o in board.content["optimizers"]
    ]
    low = min([-0.02, *(row["low"] for row in data if row["low"] is not None)])
    x = _score_axis("estimate", low, 1.25 * WORST_SCORE)
    names = [row["name"] for row in data]
    y = {"field": "name", "type": "nominal", "sort": names, "title": None, "axis": {"grid": False}}
    tooltip = [
        {"field": "name", "title": "optimizer"},
        {"field": "rank", "type": "quantitative"},
        *(_number(field) for field in ("estimate", "low", "high")),
    ]
    shared = {"y": y, "color": look.color() | {"legend": None}, "tooltip": tooltip}
    layers = [
        _line_at(0, "x"),
        {
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "mark": {"type": "rule", "strokeWidth": 4, "opacity": 0.5, "clip": True},
            "encoding": shared | {"x": x | {"field": "low"}, "x2": {"field": "high"}},
        },
        {
            "transform": [{"filter": "isValid(datum.estimate)"}],
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "clip": True},
            "encoding": shared | {"x": x},
        },
        {
            "transform": [{"filter": "!isValid(datum.estimate)"}],
            "mark": {"type": "text", "text": UNKNOWN, "align": "left"},
            "encoding": {"y": y, "x": {"datum": 0}},
        },
    ]
    return Chart(spec(layers, 40 + 24 * len(data)), data, _OVERVIEW)


def profile(board: Board, look: Styles) -> Chart:
    """Performance profiles: share of runs at or below each score."""
    profiles = board.content["performance_profile"]
    data = _long(profiles["thresholds"], profiles["shares"], look)
    x = _score_axis("x", profiles["thresholds"][0], profiles["thresholds"][-1])
    y = _share("share of runs at or below")
    layers = [lines(x, y, look, interpolate="step-after"), _hover(x, y, "score", "share of runs")]
    caption = (
        "Performance profile: a line further left and higher is better; diverged runs stand at "
        f"{WORST_SCORE:g}."
    )
    return Chart(spec(layers), data, caption)


def time_to_target(board: Board, look: Styles) -> Chart:
    """Time-to-target profiles in seconds, the search included where there was one."""
    found = board.content["time_to_target"]["best"]
    unit = "seconds_with_tuning" if board.budget > 1 else "seconds"
    data = _long(found["ratios"], found["units"][unit]["shares"], look)
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [1, found["max_ratio"]], "nice": False},
        "axis": {"values": [1, 1.5, 2, 3, 4]},
        "title": "seconds over those of the fastest",
    }
    y = _share("share of tasks")
    layers = [
        lines(x, y, look, interpolate="step-after"),
        _hover(x, y, "times the fastest", "share of tasks"),
    ]
    search = ", those of its search included" if board.budget > 1 else ""
    caption = (
        "Time to the reference's lowest validation loss: on which share of the tasks an optimizer "
        f"gets there within so many times the seconds of the fastest{search}. Higher is better."
    )
    return Chart(spec(layers), data, caption)


def along_axis(report: dict[str, Any], look: Styles) -> Chart:
    """Normalized score of every optimizer along the axis of a per-axis suite."""
    values = [task["axis_value"] for task in report["tasks"]]
    numeric = all(isinstance(v, int | float) and np.isfinite(v) and v > 0 for v in values)
    place = {task["name"]: value for task, value in zip(report["tasks"], values, strict=True)}
    data = [
        {
            "name": look.names[row["optimizer"]],
            "x": place[row["task"]] if numeric else plain(place[row["task"]]),
            **_interval(row["normalized"]),
        }
        for row in report["rows"]
    ]
    x: Spec = {"field": "x", "title": plain(report["suite"]["axis"])}
    if numeric:
        x |= {"type": "quantitative", "axis": {"values": sorted(set(values))}}
        x["scale"] = {"type": "log", "nice": False}
    else:
        x |= {"type": "ordinal", "sort": None, "axis": {"labelLimit": 90, "labelAngle": -30}}
    y = {"field": "estimate", "type": "quantitative", "title": "normalized score"}
    layers = [
        _line_at(1, "y"),
        _band(x, y, look),
        lines(x, y, look, point=True),
        _hover(x, y, str(x["title"]), "normalized score"),
    ]
    caption = "Where generalization ends: 0 is the reference, 1 (dotted) is no progress."
    return Chart(spec(layers), data, caption)


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
                    "seconds": _known(seconds[i]),
                    "estimate": _known(runs.mean()),
                    "low": _known(runs.min()),
                    "high": _known(runs.max()),
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
        _band(x, y, look),
        lines(x, y, look, point=len(data) == len(look.names)),
        _hover(x, y, title, "test loss"),
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


def _long(
    positions: list[float], shares: dict[str, list[float | None]], look: Styles
) -> list[dict[str, Any]]:
    return [
        {"name": look.names[label], "x": x, "estimate": share}
        for label, line in shares.items()
        for x, share in zip(positions, line, strict=True)
    ]


def _band(x: Spec, y: Spec, look: Styles) -> Spec:
    """With the legend of the lines: the two are drawn as one."""
    y, color = y | {"field": "low"}, look.encoding()["color"]
    return {
        "mark": {"type": "area", "opacity": 0.13, "clip": True},
        "encoding": {"x": x, "y": y, "y2": {"field": "high"}, "color": color},
    }


def _hover(x: Spec, y: Spec, x_title: str, y_title: str) -> Spec:
    tooltip = [
        {"field": "name", "title": "optimizer"},
        {"field": x["field"], "type": x["type"], "title": x_title},
        _number("estimate", y_title),
    ]
    return nearest(x, y, tooltip)


def _number(field: str, title: str | None = None) -> Spec:
    return {"field": field, "type": "quantitative", "format": ".3~g", "title": title or field}


def _share(title: str) -> Spec:
    return {
        "field": "estimate",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [0, 1]},
        "axis": {"format": "%", "tickCount": 5},
    }


def _score_axis(field: str, low: float | None, high: float) -> Spec:
    """Linear near the reference and logarithmic beyond: late, small differences are all."""
    return {
        "field": field,
        "type": "quantitative",
        "title": _SCORE,
        "scale": {"type": "symlog", "constant": 0.01, "domain": [low, high], "nice": False},
        "axis": {"values": [tick for tick in _TICKS if low is None or tick >= low], "format": "~g"},
    }


def _line_at(value: float, axis: str) -> Spec:
    return {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": COLORS[-1], "strokeDash": [3, 3]},
        "encoding": {axis: {"datum": value}},
    }


def _interval(interval: dict[str, float | None]) -> dict[str, float | None]:
    return {name: _known(interval[name]) for name in ("low", "estimate", "high")}


def _known(value: Any) -> float | None:
    """Five digits; None for what cannot be drawn."""
    if value is None or not abs(value) <= _LARGEST:
        return None
    return float(f"{value:.5g}")
