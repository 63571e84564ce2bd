"""The table of commands, the help, `list`, and `reproduce` with a small experiment of its own."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from learned_opt_lab.cli import main as main_module
from learned_opt_lab.cli.commands import reproduce
from learned_opt_lab.cli.listing.docstrings import summary
from learned_opt_lab.cli.main import main
from learned_opt_lab.papers.registry import EXPERIMENTS
from learned_opt_lab.results.resumable import Cells
from learned_opt_lab.runs.catalog import CONFIGS

ROOT = Path(__file__).parents[3]


def test_help_lists_the_commands_that_exist(capsys):
    assert main(["--help"]) == 0
    shown = re.findall(r"^  (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert shown == list(main_module.commands())
    assert {"train", "resume", "list", "reproduce"} <= set(shown)


@pytest.mark.parametrize(
    "command", [["train"], ["train", "metz2019_cnn"], ["resume"], ["list"], ["reproduce"]]
)
def test_each_command_has_help(command, capsys):
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr()
    assert "usage: learned-opt" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("command", main_module.commands())
def test_the_first_page_of_help_is_a_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert not any("`" in line for line in lines)


def test_help_and_mistyped_flags_are_answered_without_jax():
    calls = [
        ["train", "quickstart", "--help"],
        ["resume", "--help"],
        ["train", "quikstart"],
        ["resume", "--runn"],
    ]
    code = f"""
import sys
from learned_opt_lab.cli.main import main
statuses = [main(argv) for argv in {calls}]
good = statuses == [0, 0, 2, 2] and "jax" not in sys.modules
sys.exit(0 if good else f"{{statuses}}, {{'jax' in sys.modules}}")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_and_help_need_no_jax_and_no_command_s_module():
    code = """
import sys
from learned_opt_lab.cli.main import main
assert main(["--help"]) == 0
assert not [name for name in sys.modules if name.startswith("learned_opt_lab.cli.commands.")]
assert not {"configs", "numpy"} & set(sys.modules)
assert main(["list"]) == main(["list", "--json"]) == 0
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_help_of_train_explains_every_field(capsys):
    main(["train", "quickstart", "--help-all"])
    shown = capsys.readouterr().out
    for flag in (
        "--num-outer-steps", "--checkpoint-every", "--seed", "--estimator.num-pairs",
        "--estimator.std", "--run-dir", "--overwrite", "--num-devices", "--tensorboard",
        "--init-theta", "--truncation.num-steps", "--family.dataset",
    ):  # fmt: skip
        assert flag in shown
    # An option is explained on its own line or on the next, by more than the default.
    bare = re.findall(
        r"^  (--\S+)(?: \S+)?\n(?!     )|^  (--\S+) .*  \[[^]]*\]$", shown, re.MULTILINE
    )
    assert bare == []


@pytest.mark.parametrize("name", [*EXPERIMENTS, "all"])
def test_the_help_of_an_experiment_says_what_it_is_and_explains_every_option(
    name, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["reproduce", name, "--help"]) == 0
    first = capsys.readouterr().out
    assert len(first.splitlines()) <= 40
    assert main(["reproduce", name, "--help-all"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    if name != "all":
        doc = importlib.import_module(EXPERIMENTS[name]).__doc__.replace("`", "")
        assert summary(doc) in " ".join(first.split())
    for page in (first, shown):
        assert "Attributes:" not in page
        assert "`" not in page
    options = shown.partition("options:")[2]
    unexplained = re.findall(
        r"^  (--\S+)(?: \S+)*\n(?!     )|^  (--\S+) .*  \[[^]]*\]$", options, re.MULTILINE
    )
    assert unexplained == []


def test_list_names_the_configs(capsys):
    assert main(["list", "configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["configs:", *CONFIGS]
    assert all(len(line.split()) > 3 for line in lines[1:])


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [line for line in lines if not line.startswith(" ")]
    assert headings == [
        "configs:", "tasks:", "optimizers:", "baselines:", "rivals:", "schedules:", "suites:",
        "estimators:", "experiments:",
    ]  # fmt: skip
    assert {"mlp", "merged", "persistent-es", "class-subset"} <= {line.split()[0] for line in lines}


def test_a_summary_of_several_lines_is_shown_on_one():
    assert summary("What it\n    does.\n\n    And more.\n") == "What it does."
    assert summary(None) == ""


@dataclasses.dataclass(frozen=True)
class Config:
    """A small experiment."""

    scale: float = 1.0
    """Size."""


def run(config: Config, out: Path) -> dict:
    if config.scale < 0:
        raise ValueError(f"scale must not be negative, got {config.scale}")
    result = {"scale": config.scale}
    (out / "result.json").write_text(json.dumps(result))
    return result


@pytest.fixture
def small_experiment(monkeypatch):
    module = types.ModuleType("small_experiment", "A small experiment.")
    module.Config, module.run = Config, run
    monkeypatch.setitem(sys.modules, "small_experiment", module)
    monkeypatch.setattr(reproduce, "experiments", lambda: {"small": "small_experiment"})


def test_reproduce_writes_its_result_once(small_experiment, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["reproduce", "small", "--out", str(out), "--scale", "2.5"]) == 0
    assert json.loads((out / "result.json").read_text()) == {"scale": 2.5}
    assert main(["reproduce", "small", "--out", str(out), "--scale", "3"]) == 2
    assert "holds a result" in capsys.readouterr().err
    assert main(["reproduce", "small", "--out", str(out), "--scale", "3", "--overwrite"]) == 0
    assert json.loads((out / "result.json").read_text()) == {"scale": 3.0}


@dataclasses.dataclass(frozen=True)
class ScaledConfig:
    """An experiment at two scales."""

    scale: str = "default"
    """Which."""
    seed: int = 0
    """Of all."""


def scaled_experiment(calls, name, fails):
    """Two pieces; while `fails` holds the name, the second raises."""

    def run(config, out):
        cells = Cells(out, "learned_opt_lab.papers.scales", config)
        made = lambda piece: calls.append((name, piece)) or piece
        first = cells("first", lambda: made("first"))
        if name in fails:
            raise fails[name]
        result = {"scale": config.scale, "pieces": [first, cells("second", lambda: made("second"))]}
        (out / "result.json").write_text(json.dumps(result))
        return result

    module = types.ModuleType(name, "Scaled.")
    module.Config, module.run = ScaledConfig, run
    return module


@pytest.fixture
def three(monkeypatch):
    """Three experiments, what was made of them, and errors by name that a test may set."""
    calls, fails, names = [], {}, ("one", "two", "three")
    for name in names:
        # The module whose settings `Cells` compares is the one that the registry names.
        monkeypatch.setitem(sys.modules, f"mod_{name}", scaled_experiment(calls, name, fails))
    monkeypatch.setattr(
        "learned_opt_lab.results.resumable.settings",
        lambda experiment, config: dataclasses.asdict(config),
    )
    monkeypatch.setattr(reproduce, "experiments", lambda: {n: f"mod_{n}" for n in names})
    return calls, fails


def test_all_goes_on_and_one_that_fails_stops_no_other(three, tmp_path, capsys):
    calls, fails = three
    fails["two"] = RuntimeError("no such luck")
    command = ["reproduce", "all", "--out", str(tmp_path / "out"), "--scale", "paper"]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert "two: error: RuntimeError: no such luck" in shown.out
    assert "error: 1 of 3 experiments failed: two" in shown.err
    assert "[1/3] two" in shown.err
    assert calls == [("one", "first"), ("one", "second"), ("two", "first"),
                     ("three", "first"), ("three", "second")]  # fmt: skip
    fails.clear()
    calls.clear()
    # The time that it took once is not that of finding it there.
    made = {n: (tmp_path / "out" / n / "made.json").read_text() for n in ("one", "two", "three")}
    assert main(command) == 0
    assert calls == [("two", "second")]
    again = {n: (tmp_path / "out" / n / "made.json").read_text() for n in made}
    assert [n for n in made if again[n] != made[n]] == ["two"]
    assert "3 results are in" in capsys.readouterr().out
    for name in ("one", "two", "three"):
        result = json.loads((tmp_path / "out" / name / "result.json").read_text())
        assert result == {"scale": "paper", "pieces": ["first", "second"]}


def test_an_interrupted_experiment_goes_on_and_another_is_refused(three, tmp_path, capsys):
    calls, fails = three
    fails["one"] = KeyboardInterrupt()
    command = ["reproduce", "one", "--out", str(tmp_path / "out")]
    assert main(command) == 130
    fails.clear()
    assert main([*command, "--seed", "1"]) == 2
    assert "holds a result; give another --out or --overwrite" in capsys.readouterr().err
    assert main(command) == 0
    assert calls == [("one", "first"), ("one", "second")]
    assert main([*command, "--overwrite"]) == 0  # the same: nothing to replace
    assert len(calls) == 2
    assert main([*command, "--seed", "1", "--overwrite"]) == 0
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["all"], "--out"),
        (["all", "--out", "x", "--scale", "papre"], "scale must be one of default, paper"),
        (["smal", "--out", "x"], "unknown experiment 'smal'; did you mean small"),
        (["small"], "--out"),
        (["small", "--out", "x", "--scal", "1"], "unknown option --scal; did you mean --scale"),
        (["small", "--out", "x", "--scale", "-1"], "scale must not be negative"),
        ([], "needs an experiment first"),
    ],
)
def test_reproduce_refuses_and_writes_nothing(
    small_experiment, tmp_path, monkeypatch, capsys, argv, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 5
    assert message in " ".join(lines[:1])
    assert list(tmp_path.iterdir()) == []
