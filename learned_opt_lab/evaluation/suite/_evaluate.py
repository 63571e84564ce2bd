"""One call from optimizers to a report: `learned-opt evaluate` in Python."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from learned_opt import catalog
from learned_opt.disk import files
from learned_opt_lab.drawing import charts
from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.baselines import BASELINES
from learned_opt_lab.evaluation.costs.course import Course
from learned_opt_lab.evaluation.costs.plan import Plan
from learned_opt_lab.evaluation.leagues.boards import league_report, main_results
from learned_opt_lab.evaluation.leagues.contestants import league_rival
from learned_opt_lab.evaluation.leagues.run import LeagueResults, budgets_of, run_leagues
from learned_opt_lab.evaluation.page import page
from learned_opt_lab.evaluation.page.charts import suite_charts
from learned_opt_lab.evaluation.suite.entries import Entry, parse_entries
from learned_opt_lab.evaluation.suite.report import build_report, curve_arrays, header
from learned_opt_lab.evaluation.suite.run import Results, run_suite
from learned_opt_lab.evaluation.suite.settings import (
    DEFAULT_REFERENCE,
    Settings,
    prepare_folder,
    settings_of,
)
from learned_opt_lab.results import made
from outer_train.run import lock
from tasks import Suite


def evaluate(
    out: Path,
    suite: Suite,
    entries: list[Entry],
    settings: Settings | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    *,
    planned: Callable[[Plan], None] | None = None,
    max_minutes: float | None = None,
) -> dict[str, Any]:
    """Runs what is missing of an evaluation and writes `report.json`,
    `curves.npz`, `figures/` and `report.html`, all of them again after each task, and `made.json`.

    Args:
      out: a new folder, or that of the same evaluation, interrupted.
      suite: of `tasks.suites.suite`.
      entries: of `learned_opt_lab.evaluation.suite.entries.parse_entries`. The reference is added
        where it is missing.
      settings: seeds and budgets; None is what the suite says.
      progress: called with cells done, cells in all, and what is being done.
      planned: called with what it will cost, before the first cell.
      max_minutes: a cell that would end later does not begin, but for the first one. No part of
        what makes two evaluations the same one.

    Returns:
      The content of `report.json`. Its `progress` says how many tasks are complete; others are not
      in it. With none there is no file, and no optimizer in what is returned.

    Raises:
      ValueError: for a folder that holds something else or into which another process evaluates, an
        unknown reference, or a suite no task of which could run.
      OSError: something could not be written; what was measured till then is kept, and the same
        call goes on with it.
    """
    settings = settings or settings_of(suite)
    if settings.reference is None and not settings.leagues:
        settings = settings._replace(reference=DEFAULT_REFERENCE)
    entries = with_reference(entries, settings.reference)
    if settings.leagues:
        check_leagues(entries, settings)
    started = prepare_folder(out, suite, entries, settings)
    write = functools.partial(_write_results, out, suite, entries, settings)
    max_seconds = None if max_minutes is None else 60 * max_minutes
    run = run_leagues if settings.leagues else run_suite
    said = _said(entries, settings)
    with lock.hold(out), made.timed(out, "evaluate", suite.name, said, adds_up=True) as work:

        def told(done: int, total: int, what: str) -> None:
            work.note()
            progress(done, total, what)

        course = Course(told, planned, max_seconds, write)
        report = write(run(out, suite, entries, settings, course, started))
        work.finished = not report["progress"]["to_come"]
        return report


def _said(entries: list[Entry], settings: Settings) -> dict[str, Any]:
    """What an evaluation was asked for besides its suite, as far as its numbers follow from it."""
    asked = {name: value for name, value in settings._asdict().items() if name != "cache_dir"}
    return {"optimizers": [entry.spec for entry in entries], **asked}


def _write_results(
    out: Path,
    suite: Suite,
    entries: list[Entry],
    settings: Settings,
    results: Results | LeagueResults,
) -> dict[str, Any]:
    """Writes and returns the report of the tasks that all optimizers are done with."""
    main = main_results(results) if isinstance(results, LeagueResults) else results
    done = {task for task, _ in main.cells}
    to_come = [t.name for t in suite.tasks if t.name not in done and t.name not in main.skipped]
    progress = {
        "tasks_done": len(done),
        "tasks": len(done) + len(to_come),
        "to_come": to_come,
    }
    if to_come and not done:
        head = header(suite, settings, settings.reference, main.skipped)
        return {**head, "tasks": [], "optimizers": [], "progress": progress}
    shown = dataclasses.replace(
        suite, tasks=tuple(task for task in suite.tasks if task.name not in to_come)
    )
    build = league_report if settings.leagues else build_report
    report = build(shown, entries, settings, results) | {"progress": progress}
    write_report(out, shown, report, main)
    return report


def check_leagues(entries: list[Entry], settings: Settings) -> None:
    """Raises `ValueError` for leagues or budgets that are none, or who has no place in a league."""
    budgets_of(settings)
    for entry in entries:
        league_rival(entry)


def write_report(out: Path, suite: Suite, report: dict[str, Any], results: Results) -> None:
    """Writes what `evaluate` does besides the cells.

    Args:
      out: the folder.
      suite: the tasks.
      report: the content of `report.json`.
      results: what the curves are taken from.
    """
    curves = curve_arrays(suite, results)
    files.write_json(out / "report.json", report, indent=1)
    files.write_npz(out / "curves.npz", curves, compressed=True)
    drawn = suite_charts(report, curves)
    for name, chart in drawn.items():
        charts.save(chart, out / "figures" / f"{file_name(name)}.png")
    files.write_text(out / "report.html", page.render(report, drawn))


def with_reference(entries: list[Entry], reference: str | None) -> list[Entry]:
    """The entries with the reference among them: without a tuned opponent no score means anything.

    None is the best hand-designed one: Adam is added where there is none.

    Raises:
      ValueError: where the reference is neither an entry's label nor a baseline.
    """
    if reference is None:
        if any(entry.kind == "baseline" for entry in entries):
            return entries
        reference = DEFAULT_REFERENCE
    if reference in [entry.label for entry in entries]:
        return entries
    if reference not in BASELINES:
        known = dict.fromkeys([*(entry.label for entry in entries), *BASELINES])
        hint = catalog.near_names(reference, list(known))
        raise ValueError(f"unknown reference {reference[:200]!r}; {hint}")
    return [*parse_entries([reference]), *entries]
