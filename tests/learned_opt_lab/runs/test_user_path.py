"""A user's own modules of our names, beside his config or in the folder he is in."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from learned_opt_lab.cli import surroundings
from learned_opt_lab.cli.main import COMMANDS, main
from learned_opt_lab.runs import catalog, user_path

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """What a command changes of its process is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_path, "_directories", [])
    for name in ("HOME", "MPLCONFIGDIR"):  # recorded, so that they are restored
        monkeypatch.setenv(name, os.environ.get(name) or "/nowhere")


HOSTILE = "raise SystemError('this is not the module that was meant')"
NAMES = (*user_path.OWN, "secrets", "tree", "statistics")


@pytest.fixture
def shadows(tmp_path, monkeypatch) -> Path:
    """A folder whose modules have the names of ours,
    of the standard library and of libraries; we are in it.
    """
    for name in NAMES[:4]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(HOSTILE)
    for name in NAMES[4:]:
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    (tmp_path / "mine_of_shadows.py").write_text("count = 3")
    (tmp_path / "good.py").write_text(
        "from mine_of_shadows import count\nfrom configs.base import *\n"
        "config = TrainConfig(num_outer_steps=count)"
    )
    (tmp_path / "bad.py").write_text("from tasks import my_family")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_our_packages_are_those_of_setup_cfg():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(user_path.OWN)


def test_our_names_mean_our_packages(shadows, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", str(shadows), *sys.path])
    surroundings.prepare()
    importlib.invalidate_caches()  # asks every finder to
    for name in NAMES:
        spec = next(filter(None, (finder.find_spec(name, None) for finder in sys.meta_path)))
        assert shadows not in Path(spec.origin).parents, name


def test_modules_beside_a_config(shadows, capsys):
    assert catalog.load("good.py")[0].num_outer_steps == 3
    assert main(["train", "bad.py"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "cannot import name 'my_family' from 'tasks'" in first
    assert second.startswith(
        f"{shadows}/tasks.py is not looked at, since 'tasks' is a package of learned-opt"
    )


@pytest.mark.parametrize("has_init", [True, False])
def test_a_folder_of_our_name(has_init, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text("from configs.quickstart import config")
    if has_init:
        (tmp_path / "configs" / "__init__.py").write_text("")
    (tmp_path / "tasks").mkdir()  # without Python files: nobody means it
    (tmp_path / "of_a_folder.py").write_text("from configs.mine import config")
    (tmp_path / "of_another.py").write_text("from tasks.mine import config")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "of_a_folder.py"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "No module named 'configs.mine'" in first
    assert second.startswith(f"{tmp_path}/configs is not looked at, since 'configs' is a package")
    assert main(["train", "of_another.py"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("text", ['"x" * 300', '"x" * 5000', r'"a\0b" + "y" * 255'])
def test_an_error_with_an_endless_name(text, tmp_path, monkeypatch, capsys):
    (tmp_path / "endless.py").write_text(f"raise ValueError({text})")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "endless.py"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("error: config file endless.py cannot be run: ValueError: ")


def test_an_error_without_a_text(monkeypatch, capsys):
    class Mute(ValueError):
        def __str__(self):
            raise TypeError("nothing to say")

    def fail():
        raise Mute

    monkeypatch.setattr(surroundings, "prepare", fail)
    assert main(["list"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("error: Mute: a bug, or a limit of a library")


def test_started_in_such_a_folder(shadows):
    """`python -m` looks into the working directory first.

    `cli` alone must be found by Python itself.
    """
    (shadows / "learned_opt_lab" / "__init__.py").unlink()
    code = "import sys; from learned_opt_lab.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code, "--help"], cwd=shadows,
        env=os.environ | {"PYTHONPATH": f"{shadows}:{ROOT}"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) +\w", done.stdout, re.MULTILINE) == list(COMMANDS)


SCRIPTS = {
    "after": ("from learned_opt_lab.runs import config_json\nimport tasks, configs", "", ""),
    "before": ("import tasks\nimport learned_opt_lab", "'tasks' is imported from", "tasks.py"),
    "a folder": ("import configs\nimport learned_opt_lab.runs", "'configs' is imported from", ""),
}
"""What a script does -> the line that it ends with."""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_beside_modules_of_our_names(script, tmp_path):
    text, told, place = SCRIPTS[script]
    (tmp_path / "tasks.py").write_text("mine = 3")
    (tmp_path / "configs").mkdir()
    (tmp_path / "script.py").write_text(f"{text}\nprint(tasks.__file__, configs.__file__)")
    if script == "a folder":  # an installed package comes before one without `__init__.py`
        (tmp_path / "configs" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not told:
        assert done.stdout.split() == [
            f"{ROOT}/{name}/__init__.py" for name in ("tasks", "configs")
        ]
        return
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {told} {tmp_path}")
    assert place in last
    assert last.endswith("but is a package of learned-opt too; rename yours")
