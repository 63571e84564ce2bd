"""Progress of an evaluation: what it will cost first, then the time left with each cell."""

import sys

from learned_opt_lab.cli.progress import load, phase, planned_progress, shown_progress
from learned_opt_lab.evaluation.costs.plan import Plan

PLAN = Plan(("a",), ("x", "y"), (600.0, 1200.0), num_seeds=5)


def test_lines_where_there_is_no_terminal(capsys):
    with planned_progress() as shown:
        shown.tell(0, 2, "measuring a: x")
        shown.plan(PLAN)
        shown.tell(0, 2, "a: x")
    assert capsys.readouterr().err.splitlines() == [
        "[0/2] measuring a: x",
        "cost: about 30 minutes for 2 cells; in all 1 task x 2 optimizers x 5 seeds",
        "  a  30 minutes",
        "[0/2] a: x (30 minutes left)",
    ]
    with shown_progress() as progress:
        progress(1, 2, "b")
    assert capsys.readouterr().err == "[1/2] b\n"


def test_no_more_is_left_than_the_budget(capsys):
    with planned_progress() as shown:
        shown.plan(PLAN._replace(max_seconds=1000.0, spent=40.0))
        shown.tell(0, 2, "a: x")
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "a budget of 17 minutes gets as far as 0 of 1 task, 1 of 2 cells",
        "[0/2] a: x (16 minutes left)",
    ]


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with planned_progress() as shown:
        shown.tell(0, 2, "measuring a: x")
        shown.plan(PLAN)
        shown.tell(1, 2, "a: y")
    shown = capsys.readouterr().err
    assert "cost: about 30 minutes for 2 cells" in shown
    assert "1/2" in shown
    assert "left a: y" in shown


def test_work_without_cells(capsys, monkeypatch):
    with phase("drawing"):
        assert capsys.readouterr() == ("drawing\n", "")
    with phase("starting", says=False):
        assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    with phase("drawing"):
        pass
    shown = capsys.readouterr()
    assert (shown.out, "drawing" in shown.err, "0:00:00" in shown.err) == ("", True, True)
    assert "-:--:--" not in shown.err
    with phase("scoring") as tell:
        tell(0.5)
    assert "-:--:--" in capsys.readouterr().err  # the time left, of which one call tells nothing


def test_what_is_loaded_is_imported(capsys):
    load("learned_opt_lab.cli.listing.tables")
    assert "learned_opt_lab.cli.listing.tables" in sys.modules
    assert capsys.readouterr() == ("", "")
