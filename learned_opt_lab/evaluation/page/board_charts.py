"""Charts over all tasks of an evaluation, made from `report.json` alone."""

from typing import Any

import numpy as np

from learned_opt_lab.drawing.charts import Chart, Spec, Styles, lines, spec
from learned_opt_lab.drawing.text import UNKNOWN, plain
from learned_opt_lab.evaluation.measures import WORST_SCORE
from learned_opt_lab.evaluation.page.boards import Board
from learned_opt_lab.evaluation.page.marks import (
    band,
    ends,
    hover,
    line_at,
    number,
    score_axis,
    share,
)

_SCORE = "normalized score: 0 is the reference, 1 no progress"
_OVERVIEW = (
    "Interquartile mean over all tasks and runs, with its 95 % interval. Further left is better."
)
_TOP = 1.2
"""Of descents, which start at 1; diverged runs would leave no room for the others."""


def overview(board: Board, look: Styles) -> Chart:
    """Interquartile mean of the normalized scores with its interval, best on top."""
    data = [
        {"name": look.names[o["label"]], "rank": o["rank"], **ends(o["normalized"])}
        for o in board.content["optimizers"]
    ]
    low = min([-0.02, *(row["low"] for row in data if row["low"] is not None)])
    x = score_axis("estimate", low, 1.25 * WORST_SCORE, _SCORE)
    names = [row["name"] for row in data]
    y = {"field": "name", "type": "nominal", "sort": names, "title": None, "axis": {"grid": False}}
    tooltip = [
        {"field": "name", "title": "optimizer"},
        {"field": "rank", "type": "quantitative"},
        *(number(field) for field in ("estimate", "low", "high")),
    ]
    shared = {"y": y, "color": look.color() | {"legend": None}, "tooltip": tooltip}
    layers = [
        line_at(0, "x"),
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
    x = score_axis("x", profiles["thresholds"][0], profiles["thresholds"][-1], _SCORE)
    y = share("share of runs at or below")
    layers = [lines(x, y, look, interpolate="step-after"), hover(x, y, "score", "share of runs")]
    caption = (
        "Performance profile: a line further left and higher is better; diverged runs stand at "
        f"{WORST_SCORE:g}."
    )
    return Chart(spec(layers), data, caption)


def time_to_target(board: Board, look: Styles) -> Chart:
    """Time-to-target profiles in seconds, the search included where there was one."""
    found = board.content["time_to_target"]["best"]
    data = _long(found["ratios"], found["units"][board.seconds]["shares"], look)
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [1, found["max_ratio"]], "nice": False},
        "axis": {"values": [1, 1.5, 2, 3, 4]},
        "title": "seconds over those of the fastest",
    }
    y = share("share of tasks")
    layers = [
        lines(x, y, look, interpolate="step-after"),
        hover(x, y, "times the fastest", "share of tasks"),
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
            **ends(row["normalized"]),
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
        line_at(1, "y"),
        band(x, y, look),
        lines(x, y, look, point=True),
        hover(x, y, str(x["title"]), "normalized score"),
    ]
    caption = "Where generalization ends: 0 is the reference, 1 (dotted) is no progress."
    return Chart(spec(layers), data, caption)


def descent(found: dict[str, Any], unit: str, look: Styles) -> Chart:
    """Interquartile mean of the scores on the way, over steps or over seconds."""
    data = _long(found[unit]["shares"], found[unit]["scores"], look)
    title = "steps" if unit == "steps" else "seconds, over those of the reference's run"
    x = {
        "field": "x",
        "type": "quantitative",
        "title": title,
        "scale": {"nice": False},
        "axis": {"format": "%", "tickCount": 5},
    }
    low = min([-0.01, *(row["estimate"] for row in data if row["estimate"] is not None)])
    y = score_axis("estimate", low, _TOP, "score: 0 is the reference's end")
    layers = [line_at(0, "y"), lines(x, y, look), hover(x, y, title, "score")]
    caption = (
        f"All tasks in one curve over {unit}: the smoothed test loss, 1 where training starts and "
        "0 where the reference ends, interquartile mean over tasks and runs. Lower is better."
    )
    return Chart(spec(layers), data, caption)


def _long(
    positions: list[float], shares: dict[str, list[float | None]], look: Styles
) -> list[dict[str, Any]]:
    return [
        {"name": look.names[label], "x": x, "estimate": share}
        for label, line in shares.items()
        for x, share in zip(positions, line, strict=True)
    ]
