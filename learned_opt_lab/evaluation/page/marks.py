"""Parts that charts of an evaluation have in common."""

from typing import Any

from learned_opt_lab.drawing.charts import COLORS, Spec, Styles, nearest

_LARGEST = 1e100
_TICKS = (-1, -0.1, -0.01, 0, 0.01, 0.1, 1)


def band(x: Spec, y: Spec, look: Styles) -> Spec:
    """With the legend of the lines: the two are drawn as one."""
    y, color = y | {"field": "low"}, look.encoding()["color"]
    return {
        "mark": {"type": "area", "opacity": 0.13, "clip": True},
        "encoding": {"x": x, "y": y, "y2": {"field": "high"}, "color": color},
    }


def hover(x: Spec, y: Spec, x_title: str, y_title: str) -> Spec:
    """The point nearest to the pointer, with its numbers."""
    tooltip = [
        {"field": "name", "title": "optimizer"},
        {"field": x["field"], "type": x["type"], "title": x_title},
        number("estimate", y_title),
    ]
    return nearest(x, y, tooltip)


def number(field: str, title: str | None = None) -> Spec:
    """A field of a tooltip, with three digits."""
    return {"field": field, "type": "quantitative", "format": ".3~g", "title": title or field}


def share(title: str) -> Spec:
    """An axis from none to all."""
    return {
        "field": "estimate",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [0, 1]},
        "axis": {"format": "%", "tickCount": 5},
    }


def score_axis(field: str, low: float | None, high: float, title: str) -> Spec:
    """Linear near the reference and logarithmic beyond: late, small differences are all."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "symlog", "constant": 0.01, "domain": [low, high], "nice": False},
        "axis": {"values": [tick for tick in _TICKS if low is None or tick >= low], "format": "~g"},
    }


def line_at(value: float, axis: str) -> Spec:
    """A dotted line through the whole chart."""
    return {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": COLORS[-1], "strokeDash": [3, 3]},
        "encoding": {axis: {"datum": value}},
    }


def ends(interval: dict[str, float | None]) -> dict[str, float | None]:
    """An estimate with its interval, as far as it can be drawn."""
    return {name: known(interval[name]) for name in ("low", "estimate", "high")}


def known(value: Any) -> float | None:
    """Five digits; None for what cannot be drawn."""
    if value is None or not abs(value) <= _LARGEST:
        return None
    return float(f"{value:.5g}")
