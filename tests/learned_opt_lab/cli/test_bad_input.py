"""Bad input ends with status 2 and at most five lines on stderr, the first saying what is wrong;
nothing is written.
"""

import importlib.util
import json
import os
import pickle
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt import mlp
from learned_opt_lab.cli.main import main

OF_A_FAMILY = "from configs.base import *\nconfig = TrainConfig(family=CustomFamily({}))"
CONFIGS = {
    "syntax.py": "config = (",
    "nothing.py": "x = 1",
    "custom.py": OF_A_FAMILY.format("'no_such_module:family'"),
    "colon.py": OF_A_FAMILY.format("'tasks.images.class_subsets'"),
    "number.py": OF_A_FAMILY.format("'builtins:dict'"),
    "arguments.py": OF_A_FAMILY.format("'math:sqrt', '', {'n': 3}"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Theta files that do not fit, broken configs, and a run."""
    directory = tmp_path_factory.mktemp("inputs")
    theta = jax.device_get(mlp().init(jax.random.key(0)))
    good = learned_opt.save(directory / "good.npz", "mlp", {}, theta)
    (directory / "cut.npz").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (directory / "pickle.npz").write_bytes(pickle.dumps(theta))
    np.savez(
        directory / "shape.npz",
        **{name: np.zeros((2, 2), np.float32) for name in np.load(good).files},
    )
    for name in ("cut", "pickle", "shape", "other"):
        (directory / f"{name}.json").write_bytes((directory / "good.json").read_bytes())
    other = json.loads((directory / "good.json").read_text())
    (directory / "other.json").write_text(json.dumps(other | {"optimizer": "adafac"}))
    (directory / "other.npz").write_bytes(good.read_bytes())
    wide = mlp(hidden_sizes=(8,))
    learned_opt.save(
        directory / "wide.npz", "mlp", {"hidden_sizes": [8]}, wide.init(jax.random.key(0))
    )
    for name, text in CONFIGS.items():
        (directory / name).write_text(text)
    (directory / "run").mkdir()
    (directory / "run" / "config.json").write_text("{")
    (directory / "file").write_text("")
    return directory


CASES = {
    "no command": ("trian quickstart", "unknown command 'trian'; did you mean train"),
    "no config": ("train", "learned-opt train needs a config first"),
    "option before the config": (
        "train --seed 3 quickstart",
        "learned-opt train needs a config first",
    ),
    "unknown config": ("train quikstart", "unknown config 'quikstart'; did you mean quickstart?"),
    "no such file": ("train nowhere/mine.py", "there is no config file nowhere/mine.py"),
    "unknown field": (
        "train quickstart --num-outer-step 3",
        "unknown option --num-outer-step; did you mean --num-outer-steps",
    ),
    "unknown nested field": (
        "train quickstart --estimator.stdd 3",
        "unknown option --estimator.stdd; did you mean --estimator.std",
    ),
    "unknown value": (
        "train quickstart --problem.objective loss",
        "--problem.objective must be one of valid, train, got .loss.",
    ),
    "unknown kind": (
        "train quickstart estimator:megred",
        "unknown choice .estimator:megred.; did you mean estimator:merged",
    ),
    "not a number": ("train quickstart --seed x", "--seed must be a whole number, got .x."),
    "negative sigma": ("train quickstart --estimator.std -0.01", "std must be .*-0.01"),
    "zero pairs": ("train quickstart --estimator.num-pairs 0", "num_pairs must be .* 0"),
    "minimum above maximum": (
        "train quickstart truncation:log-uniform --truncation.low 90 --truncation.high 50",
        "low must not be above high, got low=90 and high=50",
    ),
    "linear schedule backwards": (
        "train quickstart truncation:linear --truncation.start 90 --truncation.end 50",
        "start must not be above end, got start=90 and end=50",
    ),
    "truncation above the episode": (
        "train quickstart --truncation.num-steps 501",
        "truncation grows to 501 inner steps, above the episode's 300",
    ),
    "devices do not divide": (
        "train quickstart --estimator.num-pairs 15 --num-devices 2",
        "15 pairs do not divide over 2 devices",
    ),
    "no devices": ("train quickstart --num-devices 0", "num_devices must be at least 1, got 0"),
    "batch above the split": (
        "train quickstart --family.batch-size 5000",
        "batch_size 5000 is larger than split",
    ),
    "too many classes": (
        "train quickstart --family.num-classes 8",
        r"num_classes_per_task must be within 1\.\.7.*got 8",
    ),
    "more training classes than exist": (
        "train quickstart --family.num-train-classes 11",
        r"num_train_classes must be within 1\.\.9; got 11",
    ),
    "set not prepared": (
        "train quickstart --family.dataset cifar10 --family.data-dir {inputs}",
        "data set 'cifar10' is not prepared in",
    ),
    "no steps": (
        "train quickstart --num-outer-steps 0",
        "num_outer_steps must be at least 1, got 0",
    ),
    "negative learning rate": (
        "train quickstart --outer-optimizer.learning-rate -1",
        "learning_rate .* above 0",
    ),
    "no hidden unit": ("train quickstart --optimizer.hidden-sizes 0", "hidden_sizes"),
    "theta past any memory": (
        "train quadratic --optimizer.hidden-sizes 2000000000",
        r"hidden_sizes.*2000000000.*: theta would have 38000000002 numbers, allowed are 268435456",
    ),
    "particles past any memory": (
        "train quadratic --estimator.num-pairs 2000000000",
        "2000000000 particles: their inner states would need .* GB of memory",
    ),
    "tasks past any memory": (
        "train quadratic --family.dim 200000",
        "16 particles: their inner states would need .* GB of memory",
    ),
    "held-out tasks past any memory": (
        "train quadratic --held-out.num-tasks 2000000000",
        "held_out.num_tasks 2000000000 of 100 steps would need .* GB of memory",
    ),
    "theta of another shape": (
        "train quickstart --init-theta {inputs}/shape.npz",
        "theta has another shape",
    ),
    "theta of other arguments": (
        "train quickstart --init-theta {inputs}/wide.npz",
        "of another optimizer",
    ),
    "theta of another optimizer": (
        "train quickstart --init-theta {inputs}/other.npz",
        "unknown optimizer 'adafac'",
    ),
    "theta cut short": ("train quickstart --init-theta {inputs}/cut.npz", "cut short"),
    "theta is a pickle": (
        "train quickstart --init-theta {inputs}/pickle.npz",
        "is a pickle, which is never read",
    ),
    "theta missing": ("train quickstart --init-theta {inputs}/no.npz", "no learned optimizer"),
    "run directory holds a run": ("train quickstart --run-dir {inputs}/run", "holds a run"),
    "run directory is a file": (
        "train quickstart --run-dir {inputs}/file",
        "is a file, not a directory",
    ),
    "config with a syntax error": ("train {inputs}/syntax.py", "cannot be run: SyntaxError"),
    "config without config": ("train {inputs}/nothing.py", "must define `config`"),
    "family's module is missing": (
        "train {inputs}/custom.py",
        "'no_such_module:family' cannot be found",
    ),
    "family is no module:name": (
        "train {inputs}/colon.py",
        "given as \"module:name\", got 'tasks.images.class_subsets'",
    ),
    "family is no family": (
        "train {inputs}/number.py",
        "must return a tasks.base.TaskFamily, got dict",
    ),
    "family of other arguments": (
        "train {inputs}/arguments.py",
        "math:sqrt does not take the arguments",
    ),
    "resume of no run": ("resume {inputs}", "holds no run"),
    "resume of a damaged config": ("resume {inputs}/run", "is no valid JSON"),
    "resume of nothing": ("resume", "learned-opt resume needs RUN"),
    "list of nothing": ("list optimisers", "WHAT must be one of all, configs.*, got .optimisers."),
    "unknown experiment": ("reproduce nonsense --out x", "unknown experiment 'nonsense'"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Compiled programs of the tests stay out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    directory = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", directory)


def contents(directory: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in directory.rglob("*")
        if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, inputs, tmp_path, monkeypatch, capsys):
    command, message = CASES[case]
    monkeypatch.chdir(tmp_path)
    before = contents(inputs)
    status = main(command.format(inputs=inputs).split())
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert status == 2
    assert 1 <= len(lines) <= 5
    assert "Traceback" not in shown.err + shown.out
    assert not set("│╭╰") & set(shown.err)
    assert re.search(message, lines[0]), lines[0]
    assert contents(inputs) == before
    assert os.listdir(tmp_path) == []


def test_tensorboard_without_its_library(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "tensorboardX" else find(name)
    )
    assert main(["train", "quadratic", "--tensorboard", "--run-dir", str(tmp_path / "run")]) == 2
    assert "tensorboardX is not installed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unprepared_set_says_how_to_prepare_it(tmp_path, capsys):
    run = ["--run-dir", str(tmp_path / "run")]  # runs/quickstart may be the user's own
    assert (
        main(
            [
                "train",
                "quickstart",
                *run,
                "--family.dataset",
                "cifar10",
                "--family.data-dir",
                str(tmp_path),
            ]
        )
        == 2
    )
    assert "tfds build cifar10 --file_format=array_record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("--num-outer-step", "--num-outer-steps"),
        ("--estimator.num-pars", "--estimator.num-pairs"),
        ("estimator:megred", "estimator:merged"),
    ],
)
def test_near_names_of_fields_are_given(capsys, option, near):
    assert main(["train", "quickstart", option, "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"did you mean .*{near}\b", line)
