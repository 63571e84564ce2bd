"""`report.html`: one file that shows `report.json`, with nothing to fetch.

The tables are written here, so the page reads without scripts; scripts sort and enlarge. Every number carries the path
at which it stands in the embedded JSON. Figures are SVG with their colours turned into CSS variables, so that light and
dark need one picture only.
"""

import html
import io
import json
import re
from importlib import resources
from string import Template
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from evaluation.suite_figures import Captioned

_OVERVIEW = ("overview", "profile", "axis")
_RANKING = (
    ("normalized score", "normalized"),
    ("better than reference", "improvement_over_reference"),
    ("steps to reference's best, ratio", "steps_to_best.steps_ratio"),
    ("seconds, ratio", "steps_to_best.seconds_ratio"),
    ("tasks where reached", "steps_to_best.tasks_reached"),
    ("tasks with validation loss at most the reference's", "validation_at_most_reference.tasks"),
    ("diverged", "divergence_rate"),
)
_ROWS = (
    ("normalized score", "normalized"),
    ("test loss", "test_loss"),
    ("test accuracy", "test_accuracy"),
    ("validation loss", "validation_loss"),
    ("training loss", "train_loss"),
    ("steps to target", "steps_to_target.steps"),
    ("seconds to target", "steps_to_target.seconds"),
    ("steps, ratio", "steps_to_target.steps_ratio"),
    ("seconds per step", "seconds_per_step"),
    ("of that overhead", "overhead_seconds_per_step"),
    ("compilation, s", "compile_seconds"),
    ("diverged", "divergence_rate"),
)


def render(report: dict[str, Any], figures: dict[str, Captioned]) -> str:
    """The page.

    Args:
      report: what `report.json` holds.
      figures: of `evaluation.suite_figures.suite_figures`.
    """
    files = {name: resources.files("evaluation").joinpath(f"page.{name}").read_text() for name in ("html", "css", "js")}
    svgs = {name: _figure(name, captioned) for name, captioned in figures.items()}
    # "</" would end the script element wherever it stands in a string.
    embedded = json.dumps(report, allow_nan=False).replace("</", "<\\/")
    return Template(files["html"]).substitute(
        title=html.escape(f"Suite {report['suite']['name']}: learned and tuned optimizers"),
        verdict=_verdict(report),
        about=_about(report),
        ranking=_ranking(report),
        overview="".join(svgs[name] for name in svgs if name in _OVERVIEW),
        rows=_rows(report),
        curves="".join(svgs[name] for name in svgs if name not in _OVERVIEW),
        pairs=_pairs(report),
        diverged=_diverged(report),
        method=_method(report),
        css=files["css"],
        js=files["js"],
        json=embedded,
    )


def format_number(value: float | int | None) -> str:
    """Three digits that matter; a dash for null."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"


def _lookup(report: dict[str, Any], path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        if value is None:
            return None
        value = value[int(key)] if isinstance(value, list) else value.get(key)
    return value


def _number(report: dict[str, Any], path: str) -> str:
    return f'<span data-path="{path}">{format_number(_lookup(report, path))}</span>'


def _cell(report: dict[str, Any], path: str) -> str:
    """A number, or an estimate with its interval below it; a dash where there is nothing."""
    value = _lookup(report, path)
    if value is None:
        return "<td>–</td>"
    if not isinstance(value, dict):
        return f"<td>{_number(report, path)}</td>"
    low, high = _number(report, f"{path}.low"), _number(report, f"{path}.high")
    return f'<td>{_number(report, f"{path}.estimate")}<span class="range">{low} … {high}</span></td>'


def _table(name: str, headings: list[str], num_text: int, body: list[str]) -> str:
    cells = (
        f'<th scope="col"{" class=text" if i < num_text else ""}><button>{html.escape(heading)}</button></th>'
        for i, heading in enumerate(headings)
    )
    return (
        f'<table id="{name}" class="sortable"><thead><tr>{"".join(cells)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _text(value: str) -> str:
    return f'<td class="text">{html.escape(value)}</td>'


def _open_row(report: dict[str, Any], label: str) -> str:
    return '<tr class="reference">' if label == report["reference"] else "<tr>"


def _ranking(report: dict[str, Any]) -> str:
    body = []
    for i, optimizer in enumerate(report["optimizers"]):
        cells = "".join(_cell(report, f"optimizers.{i}.{path}") for _, path in _RANKING)
        rank = f"<td>{_number(report, f'optimizers.{i}.rank')}</td>"
        about = _text(optimizer.get("description", ""))
        body.append(f"{_open_row(report, optimizer['label'])}{_text(optimizer['label'])}{rank}{cells}{about}</tr>")
    return _table("ranking", ["optimizer", "rank", *(heading for heading, _ in _RANKING), "what it is"], 1, body)


def _rows(report: dict[str, Any]) -> str:
    body = []
    for i, row in enumerate(report["rows"]):
        cells = "".join(_cell(report, f"rows.{i}.{path}") for _, path in _ROWS)
        chosen = ", ".join(f"{k} {format_number(v)}" for k, v in (row["hyperparameters"] or {}).items())
        names = _text(row["task"]) + _text(row["optimizer"])
        body.append(f"{_open_row(report, row['optimizer'])}{names}{cells}{_text(chosen or 'not tuned')}</tr>")
    headings = ["task", "optimizer", *(heading for heading, _ in _ROWS), "chosen"]
    return _table("rows", headings, 2, body)


def _pairs(report: dict[str, Any]) -> str:
    labels = [optimizer["label"] for optimizer in report["optimizers"]]
    index = {(pair["x"], pair["y"]): i for i, pair in enumerate(report["probability_of_improvement"])}
    body = []
    for x in labels:
        cells = (_cell(report, f"probability_of_improvement.{index[x, y]}") if x != y else "<td></td>" for y in labels)
        body.append(f"<tr>{_text(x)}{''.join(cells)}</tr>")
    return _table("pairs", ["", *labels], 1, body)


def _verdict(report: dict[str, Any]) -> str:
    """One sentence for each learned optimizer against the tuned reference, or the winner where there is none."""
    learned = [(i, o) for i, o in enumerate(report["optimizers"]) if o["kind"] == "learned"]
    reference = html.escape(report["reference"])
    sentences = []
    for i, optimizer in learned[:3]:
        score = optimizer["normalized"]
        word = "beats" if score["high"] < 0 else "loses to" if score["low"] > 0 else "is level with"
        probability = _number(report, f"optimizers.{i}.improvement_over_reference.estimate")
        sentences.append(
            f"<b>{html.escape(optimizer['label'])}</b> {word} tuned {reference}: normalized score "
            f"{_number(report, f'optimizers.{i}.normalized.estimate')} (0 is {reference}, lower is better), and a run "
            f"of it ends below one of {reference} with probability {probability}."
        )
    return " ".join(sentences) or f"<b>{html.escape(report['optimizers'][0]['label'])}</b> ranks first."


def _about(report: dict[str, Any]) -> str:
    suite, settings = report["suite"], report["settings"]
    return (
        f"{html.escape(suite['description'])} Version {_number(report, 'suite.version')}, "
        f"{len(report['tasks'])} tasks, {_number(report, 'settings.num_seeds')} runs of each. Baselines are tuned for "
        f"each task on {settings['num_tuning_seeds']} other runs: a grid of 11 learning rates (12 "
        f"configurations for hd, rtho and marthe), or random search over {settings['budget']}; "
        "learned optimizers are not tuned."
    )


def _diverged(report: dict[str, Any]) -> str:
    lines = [
        f"{run['optimizer']} on {run['task']}, run {run['run']}"
        + (f": not finite from step {run['first_non_finite_step']}" if run["first_non_finite_step"] is not None else "")
        for run in report["diverged"]
    ]
    lines += [f"{skipped['task']} was skipped: {skipped['reason']}" for skipped in report["skipped"]]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    summary = f"{len(report['diverged'])} diverged runs, {len(report['skipped'])} skipped tasks"
    return f"<details{' open' if 0 < len(lines) <= 12 else ''}><summary>{summary}</summary><ul>{items}</ul></details>"


def _method(report: dict[str, Any]) -> str:
    terms = {**report["definitions"], "measured on": ", ".join(f"{k} {v}" for k, v in report["environment"].items())}
    items = "".join(f"<dt>{html.escape(k.replace('_', ' '))}</dt><dd>{html.escape(v)}</dd>" for k, v in terms.items())
    return f"<dl>{items}</dl>"


def _figure(name: str, captioned: Captioned) -> str:
    caption = html.escape(captioned.caption)
    return (
        f'<figure id="figure-{name}"><button aria-label="enlarge">{to_svg(captioned.figure, name)}</button>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element with text as text and colours as CSS variables (`--c-` and the hex digits)."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.patch.set_alpha(0)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"((?:fill|stroke|stop-color): ?)#([0-9a-f]{6})", r"\1var(--c-\2, #\2)", svg)
