"""One call from optimizers to a report: `learned-opt evaluate` in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from learned_opt.disk import files
from learned_opt_lab.drawing import training_figures
from learned_opt_lab.drawing.text import file_name
from learned_opt_lab.evaluation.baselines import BASELINES
from learned_opt_lab.evaluation.suite import page
from learned_opt_lab.evaluation.suite.entries import Entry, parse_entries
from learned_opt_lab.evaluation.suite.figures import suite_figures
from learned_opt_lab.evaluation.suite.report import build_report, curve_arrays
from learned_opt_lab.evaluation.suite.run import Results, Settings, prepare_folder, run_suite
from outer_train.run import lock
from tasks import Suite


def evaluate(
    out: Path,
    suite: Suite,
    entries: list[Entry],
    settings: Settings | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> dict[str, Any]:
    """Runs what is missing of an evaluation and writes `report.json`,
    `curves.npz`, `figures/` and `report.html`.

    Args:
      out: a new folder, or that of the same evaluation, interrupted.
      suite: of `tasks.suites.suite`.
      entries: of `learned_opt_lab.evaluation.suite.entries.parse_entries`. The reference is added
        where it is missing.
      settings: seeds and budgets; None is the default.
      progress: called with cells done, cells in all, and what is being done.

    Returns:
      The content of `report.json`.

    Raises:
      ValueError: for a folder that holds something else or into which another process evaluates, an
        unknown reference, or a suite no task of which could run.
      OSError: something could not be written; what was measured till then is kept, and the same
        call goes on with it.
    """
    settings = settings or Settings()
    entries = with_reference(entries, settings.reference)
    started = prepare_folder(out, suite, entries, settings)
    with lock.hold(out):
        results = run_suite(out, suite, entries, settings, progress, started)
        return write_report(out, suite, entries, settings, results)


def write_report(
    out: Path, suite: Suite, entries: list[Entry], settings: Settings, results: Results
) -> dict[str, Any]:  # fmt: skip
    """Writes what `evaluate` does besides the cells; returns the content of `report.json`."""
    report = build_report(suite, entries, settings, results)
    curves = curve_arrays(suite, results)
    files.write_json(out / "report.json", report, indent=1)
    files.write_npz(out / "curves.npz", curves, compressed=True)
    drawn = suite_figures(report, curves)
    for name, captioned in drawn.items():
        training_figures.save(captioned.figure, out / "figures" / f"{file_name(name)}.png")
    files.write_text(out / "report.html", page.render(report, drawn))
    return report


def with_reference(entries: list[Entry], reference: str) -> list[Entry]:
    """The entries with the reference among them: without a tuned opponent no score means anything.

    Raises:
      ValueError: where the reference is neither an entry's label nor a baseline.
    """
    if reference in [entry.label for entry in entries]:
        return entries
    if reference not in BASELINES:
        known = ", ".join([*(entry.label for entry in entries), *BASELINES])
        raise ValueError(f"unknown reference {reference!r}; expected one of {known}")
    return [*parse_entries([reference]), *entries]
