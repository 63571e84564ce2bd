"""Charts one can hover: Vega-Lite specifications, their script for a page, and the same as PNG.

A specification is plain JSON, so what it shows can be read and tested without a browser. Text of
users stands in data values only, which Vega draws as they are, and never in names of fields.
`vl_convert` holds Vega-Lite with all it needs: nothing is fetched.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt.disk import files
from learned_opt_lab.drawing.colors import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from learned_opt_lab.drawing.text import plain

VERSION = "6.4"
"""Of Vega-Lite: the same for the page and for the PNG."""
COLORS = tuple(name.lower() for name in (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY))
INK, SOFT, FAINT = "#16181d", "#5b616e", "#d9dce3"
"""Words and what all is measured against; axes; grids."""
_DASHES = ([1, 0], [8, 3, 2, 3], [2, 2])
_REFERENCE_DASH = [6, 4]
_WIDTH, _HEIGHT = 560, 300
_SCALE = 2.0
_LABEL_PIXELS = 220

Spec = dict[str, Any]


class Chart(NamedTuple):
    """A picture and what it shows in one sentence.

    Attributes:
      spec: of Vega-Lite, without data.
      data: its rows.
      caption: the sentence.
    """

    spec: Spec
    data: list[dict[str, Any]]
    caption: str


class Styles(NamedTuple):
    """One look for each name, the same in all charts of a page.

    Attributes:
      names: label -> what is shown for it.
      colors, dashes: of the names, in the same order.
    """

    names: dict[str, str]
    colors: list[str]
    dashes: list[list[int]]

    def color(self) -> Spec:
        """Colour by the field `name`."""
        scale = {"domain": list(self.names.values()), "range": self.colors}
        return {"field": "name", "type": "nominal", "scale": scale}

    def encoding(self) -> Spec:
        """Colour, and dashes, by the field `name`, with one legend below the chart."""
        legend = {
            "orient": "bottom",
            "columns": 3,
            "title": None,
            "labelLimit": _LABEL_PIXELS,
            "symbolType": "stroke",
            "symbolStrokeWidth": 2,
            # Long enough to tell dashes apart.
            "symbolSize": 300,
            # A band's opacity would be the legend's.
            "symbolOpacity": 1,
        }
        dashes = {"domain": list(self.names.values()), "range": self.dashes}
        return {
            "color": self.color() | {"legend": legend},
            "strokeDash": {"field": "name", "type": "nominal", "scale": dashes, "legend": legend},
        }


def styles(labels: Iterable[str], reference: str) -> Styles:
    """The first few, which matter most, get the clearest colours; the reference is black."""
    names: dict[str, str] = {}
    for label in labels:
        shown = plain(label) or "(no name)"
        # Two labels may look the same where one of them holds what does not print.
        same = sum(name.startswith(shown) for name in names.values())
        names[label] = f"{shown} ({same + 1})" if shown in names.values() else shown
    others = [label for label in names if label != reference]
    place = {label: i for i, label in enumerate(others)}
    colors = [COLORS[place[n] % len(COLORS)] if n in place else INK for n in names]
    dashes = [
        _DASHES[place[n] // len(COLORS) % len(_DASHES)] if n in place else _REFERENCE_DASH
        for n in names
    ]
    return Styles(names, colors, dashes)


def spec(layers: list[Spec], height: int = _HEIGHT) -> Spec:
    """A specification in this project's look, as wide as the place it stands in."""
    axis = {"domainColor": SOFT, "tickColor": SOFT, "gridColor": FAINT, "labelLimit": _LABEL_PIXELS}
    text = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"}
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VERSION.split('.')[0]}.json",
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": layers,
        "config": {
            "background": None,
            "view": {"stroke": None},
            "font": "system-ui, sans-serif",
            "axis": axis | text,
            "legend": text,
            "line": {"strokeWidth": 1.8},
            # A chart has a description and its numbers stand in tables; its parts have none.
            "mark": {"aria": False},
        },
    }


def lines(x: Spec, y: Spec, look: Styles, **mark: Any) -> Spec:
    """A layer of one line a name; a click on a name in the legend leaves its line alone."""
    pick = {"name": "pick", "select": {"type": "point", "fields": ["name"]}, "bind": "legend"}
    shown = {"condition": {"param": "pick", "value": 1}, "value": 0.12}
    return {
        "params": [pick],
        "mark": {"type": "line", "clip": True, **mark},
        "encoding": {"x": x, "y": y, **look.encoding(), "opacity": shown},
    }


def nearest(x: Spec, y: Spec, tooltip: list[Spec]) -> Spec:
    """A layer that marks the point nearest to the pointer, and says what stands there."""
    hover = {
        "name": "hover",
        "select": {"type": "point", "on": "pointerover", "clear": "pointerout", "nearest": True},
    }
    shown = {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0}
    return {
        "params": [hover],
        "mark": {"type": "point", "filled": True, "size": 60, "clip": True},
        "encoding": {"x": x, "y": y, "opacity": shown, "tooltip": tooltip},
    }


def png(chart: Chart) -> bytes:
    """The chart as a picture, as a page of ordinary width shows it."""
    import vl_convert  # Starts a JavaScript engine.

    whole = chart.spec | {"width": _WIDTH, "data": {"values": chart.data}, "background": "white"}
    # The fonts of a page are not those of a picture.
    whole["config"] = whole["config"] | {"font": "sans-serif"}
    return vl_convert.vegalite_to_png(whole, vl_version=VERSION, scale=_SCALE)


def save(chart: Chart, path: Path) -> None:
    """Writes the picture, whole or not at all, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = png(chart)
    files.write_atomically(path, lambda file: file.write(picture))


@functools.cache
def script() -> str:
    """Vega, Vega-Lite and Vega-Embed (BSD-3-Clause), as one script for the inside of a page."""
    import vl_convert

    bundle = vl_convert.javascript_bundle(vl_version=VERSION)
    # Within strings, which is the only place where a script may hold these.
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def in_css_colors(value: Any, is_color: bool = False) -> Any:
    """A specification with its colours as CSS variables (`--c-` and the hex digits), so that one
    picture serves light and dark pages; a user's text that reads like a colour stays what it is.
    """
    if isinstance(value, dict):
        return {
            key: in_css_colors(item, key == "range" or key.lower().endswith("color"))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [in_css_colors(item, is_color) for item in value]
    if is_color and isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value):
        return f"var(--c-{value[1:]}, {value})"
    return value
