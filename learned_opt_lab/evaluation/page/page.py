"""`report.html`: one file that shows `report.json`, with nothing to fetch.

`page.html` is the template and holds all markup; what it shows is escaped by the template engine,
after `learned_opt_lab.drawing.text.plain`. The tables are in the page, so that it reads without
scripts; scripts sort, draw the charts and give CSV. Every number carries the path at which it
stands in the embedded JSON.
"""

import functools
from typing import Any

import jinja2
from markupsafe import Markup

from learned_opt_lab.drawing import charts as drawing
from learned_opt_lab.drawing.charts import Chart
from learned_opt_lab.drawing.templates import page_template
from learned_opt_lab.drawing.text import json_for_script
from learned_opt_lab.evaluation.page import tables
from learned_opt_lab.evaluation.page.boards import boards_of
from learned_opt_lab.evaluation.page.sentences import reference_name, sentence_of


def render(report: dict[str, Any], charts: dict[str, Chart]) -> str:
    """The page.

    Args:
      report: what `report.json` holds.
      charts: of `learned_opt_lab.evaluation.page.charts.suite_charts`; none are drawn if empty.
    """
    boards = boards_of(report)
    tasks = [(t["name"], f"{t['name']}_steps", f"{t['name']}_seconds") for t in report["tasks"]]
    return _template().render(
        report=report,
        title=f"Suite {report['suite']['name']}: learned and tuned optimizers",
        reference=reference_name(report),
        boards=boards,
        sentences=[(board, sentence_of(board, report)) for board in boards],
        charts=charts,
        place={name: i for i, name in enumerate(charts)},
        tasks=[task for task in tasks if task[1] in charts],
        pairs=[
            {(p["x"], p["y"]): i for i, p in enumerate(b.content["probability_of_improvement"])}
            for b in boards
        ],
        lost=_lost(report),
        terms=_terms(report),
        value_at=functools.partial(_lookup, report),
        json=Markup(json_for_script(report)),
        charts_json=Markup(json_for_script(_in_page(charts))),
        library=Markup(drawing.script() if charts else ""),
    )


def _in_page(charts: dict[str, Chart]) -> dict[str, Any]:
    """Specifications in the order of `charts`, since names are a user's text, and data, once for
    all charts that share them.
    """
    places: dict[int, int] = {}
    data: list[Any] = []
    specs = []
    for chart in charts.values():
        if id(chart.data) not in places:
            places[id(chart.data)] = len(data)
            data.append(chart.data)
        spec = drawing.in_css_colors(chart.spec) | {"description": chart.caption}
        specs.append({"spec": spec, "data": places[id(chart.data)]})
    return {"specs": specs, "data": data}


@functools.cache
def _template() -> jinja2.Template:
    return page_template("learned_opt_lab.evaluation.page", tables=tables)


def _lookup(report: dict[str, Any], path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        if value is None:
            return None
        value = value[int(key)] if isinstance(value, list) else value.get(key)
    return value


def _lost(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{run['optimizer']} on {run['task']}, run {run['run']}"
        + (
            f": not finite from step {run['first_non_finite_step']}"
            if run["first_non_finite_step"] is not None
            else ""
        )
        for run in report["diverged"]
    ]
    return lines + [
        f"{skipped['task']} was skipped: {skipped['reason']}" for skipped in report["skipped"]
    ]


def _terms(report: dict[str, Any]) -> list[tuple[str, str]]:
    terms = {
        **report["definitions"],
        **(report.get("leagues") or {}).get("definitions", {}),
        "measured on": ", ".join(f"{k} {v}" for k, v in report["environment"].items() if v),
    }
    return [(name.replace("_", " "), meaning) for name, meaning in terms.items()]
