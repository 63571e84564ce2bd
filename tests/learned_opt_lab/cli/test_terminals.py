"""Narrow and plain terminals, and numbers past those of a machine, end in a line or a page."""

import re

import pytest

from learned_opt_lab.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_help_on_a_narrow_plain_terminal(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr()
    assert f"learned-opt {name}" in shown.out.replace("\n", " ")
    assert shown.err == ""


NARROW = [
    "train quickstart --num-outer-step 3",
    "train quickstart --problem.objective loss",
    "resume",
    "evaluate",
    "tune adam --budgett 3",
]


@pytest.mark.parametrize("line", NARROW)
def test_errors_do_not_depend_on_the_terminal(line, monkeypatch, capsys):
    shown = []
    for columns, term in (("200", "xterm"), ("20", "dumb")):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("TERM", term)
        assert main(line.split()) == 2
        shown.append(capsys.readouterr().err)
    assert shown[0] == shown[1]
    assert 1 <= len(shown[0].splitlines()) <= 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train quadratic --estimator.num-pairs 1000000000000",
            "--estimator.num-pairs must be within -2147483648..",
        ),
        (
            "train quadratic --optimizer.hidden-sizes 3 4000000000",
            "--optimizer.hidden-sizes must be within .* got 4000",
        ),
        ("train quadratic --num-outer-steps -2147483649", "--num-outer-steps must be within"),
        (
            "train quadratic --seed 9223372036854775808",
            "--seed must be within .*..9223372036854775807",
        ),
        ("ablate quadratic --num-tasks 1000000000000", "--num-tasks must be within"),
        ("tune adam8 --budget 1000000000000", "--budget must be within"),
    ],
)
def test_counts_past_those_of_a_machine(line, message, capsys):
    assert main(line.split()) == 2
    (shown,) = capsys.readouterr().err.splitlines()
    assert re.search(message, shown), shown
