"""One mechanism tells what a command came to: in words, as one JSON object, or in one line."""

import json
import math
import sys
import types
from pathlib import Path

import pytest

from learned_opt_lab.cli import main as main_module
from learned_opt_lab.cli.main import main
from learned_opt_lab.cli.output import Mode, Outcome, end, mode_of


def run(args):
    print("a table")
    print("a bar", file=sys.stderr)
    if args == ["fail"]:
        raise ValueError("no such thing")
    return Outcome(0, {"out": Path("out"), "score": math.nan, "sizes": (1, 2)}, "it won", "go on")


@pytest.fixture
def command(monkeypatch):
    module = types.ModuleType("a_command", "do: a command.")
    module.run, module.parse = run, lambda argv, prog: argv
    monkeypatch.setitem(sys.modules, "a_command", module)
    monkeypatch.setattr(main_module, "commands", lambda: {"do": "a_command"})


def test_in_words(command, capsys):
    assert main(["do"]) == 0
    assert capsys.readouterr() == ("a table\nit won\nnext: go on\n", "a bar\n")


def test_as_json(command, capsys):
    assert main(["do", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "command": "do", "status": 0, "out": "out", "score": None, "sizes": [1, 2],
        "verdict": "it won", "next": "go on",
    }  # fmt: skip
    assert shown.err == "a table\na bar\n"


def test_quietly(command, capsys):
    assert main(["--quiet", "do"]) == 0
    assert capsys.readouterr() == ("it won\n", "")
    assert main(["do", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "it won"
    assert main(["do", "fail", "--quiet", "--json"]) == 2
    assert capsys.readouterr() == ("", "error: no such thing\n")


def test_an_end_that_is_no_success(capsys):
    outcome = Outcome(143, {"run_dir": Path("x")}, next="resume", error="stopped")
    assert end(Mode(quiet=True), "train", outcome) == 143
    assert capsys.readouterr() == ("", "stopped\n")
    assert end(Mode(as_json=True), "train", outcome) == 143
    assert json.loads(capsys.readouterr().out)["status"] == 143
    assert end(Mode(), "train", 1) == 1
    assert capsys.readouterr() == ("", "")


def test_flags_stand_anywhere():
    assert mode_of(["--json", "list", "--quiet"]) == (Mode(True, True), ["list"])
    assert mode_of(["list"]) == (Mode(), ["list"])


def test_list_as_json(capsys):
    assert main(["list", "suites", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suites"]["quick"].startswith("4 tasks. ")
    assert set(found) == {"command", "status", "suites", "verdict", "next"}
