"""One mechanism tells what a command came to: in words, as one JSON object, or in one line."""

import json
import math
import subprocess
import sys
import types
from pathlib import Path

import pytest

import learned_opt
from configs import base
from learned_opt_lab.cli import main as main_module
from learned_opt_lab.cli import progress
from learned_opt_lab.cli.commands import evaluate
from learned_opt_lab.cli.main import main
from learned_opt_lab.cli.output import Mode, Outcome, end, mode_of
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config
from learned_opt_lab.runs import user_path
from tests.support.lab.watched import made_up_run


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


@pytest.fixture
def noisy(tmp_path, monkeypatch):
    """A config of the user's that prints, and a command that reads it."""
    (tmp_path / "noisy.py").write_text(
        "import sys\nprint('hello')\nprint('mine', file=sys.stderr)\n"
        "from configs.quickstart import config"
    )
    module = types.ModuleType("a_command", "do: a command.")
    module.run = lambda args: Outcome(line="done")
    module.parse = lambda argv, prog: parse_with_config(ConfigArgs, argv, prog)
    monkeypatch.setitem(sys.modules, "a_command", module)
    monkeypatch.setattr(main_module, "commands", lambda: {"do": "a_command"})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_path, "_directories", [])
    monkeypatch.chdir(tmp_path)


def test_a_config_of_the_user_s_prints_nothing_between(noisy, capsys):
    assert main(["do", "noisy.py", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["verdict"] == "done"
    assert "hello" in shown.err
    assert main(["do", "noisy.py", "--quiet"]) == 0
    assert capsys.readouterr() == ("done\n", "")
    assert main(["do", "noisy.py", "--quiet", "--sead", "3"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown option --sead")
    for mode in ("--json", "--quiet"):
        assert main(["do", "noisy.py", mode, "--help"]) == 0
        assert "usage:" in capsys.readouterr().out


def test_flags_stand_anywhere():
    assert mode_of(["--json", "list", "--quiet"]) == (Mode(True, True), ["list"])
    assert mode_of(["list"]) == (Mode(), ["list"])


def test_list_as_json(capsys):
    assert main(["list", "suites", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suites"]["quick"].startswith("4 tasks. ")
    assert set(found) == {"command", "status", "suites", "verdict", "next"}


def test_options_in_the_place_of_a_command(capsys):
    for words in (["--version", "--json"], ["--json", "--version"]):
        assert main(words) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["version"] == learned_opt.__version__
        assert (found["command"], found["status"]) == ("version", 0)
    assert main(["--quiet", "--version"]) == 0
    assert capsys.readouterr().out == f"learned-opt {learned_opt.__version__}\n"
    assert main(["--show-completion", "bash", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["script"].startswith("# Completion")
    assert main(["--complete", "list", "--js"]) == 0
    assert capsys.readouterr().out == "--json\n"


@pytest.mark.parametrize("flags", [[], ["--quiet"], ["--json"], ["--json", "--quiet"]])
def test_a_page_says_where_it_is(flags, tmp_path, capsys, monkeypatch):
    made_up_run(tmp_path / "run", 3)
    page = tmp_path / "page.html"
    assert main(["watch", str(tmp_path / "run"), "--out", str(page), *flags]) == 0
    shown = capsys.readouterr().out
    found = json.loads(shown)["out"] if "--json" in flags else shown.removeprefix("the page is ")
    assert found.strip() == str(page)

    def interrupted(server):
        raise KeyboardInterrupt

    monkeypatch.setattr("learned_opt_lab.watch.server.Server.serve_forever", interrupted)
    assert main(["watch", str(tmp_path / "run"), *flags]) == 0
    shown = capsys.readouterr()
    told = shown.err if "--json" in flags else shown.out
    assert told.startswith("http://127.0.0.1:")
    if "--json" in flags:
        assert told.startswith(json.loads(shown.out)["url"])


@pytest.mark.parametrize("flag", [[], ["-OO"]])
def test_estimators_are_told_without_docstrings(flag):
    done = subprocess.run(
        [sys.executable, *flag, "-m", "learned_opt_lab.cli.main", "list", "estimators"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    for name, kind in base.kinds_of(base.Estimator).items():
        (line,) = (x for x in done.stdout.splitlines() if x.split()[0] == name.replace("_", "-"))
        assert kind.__doc__.split(".")[0].split() == line.split(".")[0].split()[1:]


HOSTILE = "a\x1b]0;title\x07b\nc\u202e\r"
"""A folder's name, or a label, that commands a terminal."""


def test_names_are_no_commands_to_a_terminal(capsys, monkeypatch):
    outcome = Outcome(0, line=HOSTILE, next=HOSTILE, error=HOSTILE)
    end(Mode(), "train", outcome)
    with progress.planned_progress() as planned:
        planned.tell(1, 2, HOSTILE)
    with progress.shown_progress() as show:
        show(1, 2, HOSTILE)
    with progress.phase(HOSTILE):
        pass
    shows = progress.of_runs()
    shows.tell(HOSTILE)
    shows.warn(HOSTILE)
    untold = {"estimate": None, "low": None, "high": None}
    ranked = {"label": HOSTILE, "rank": 1, "normalized": untold, "divergence_rate": 0.0}
    ranked |= {"improvement_over_reference": untold, "tuning_source": HOSTILE}
    report = {"optimizers": [ranked], "reference": HOSTILE, "progress": {"to_come": 0}}
    name_of = "learned_opt_lab.evaluation.page.sentences.reference_name"
    monkeypatch.setattr(name_of, lambda report: report["reference"])
    skipped = {"task": HOSTILE, "reason": HOSTILE}
    evaluate.print_end(report | {"skipped": [skipped]}, Path(HOSTILE))
    shown = capsys.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert sum(r"a\x1b]0;title\x07b c\u202e" in line for line in lines) == len(lines) - 1
    assert len(lines) == 14  # with the head of the table
    assert all(line.isprintable() for line in lines)
