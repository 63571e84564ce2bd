"""A run from Python: what the command does, told by a result and by exceptions,
and nothing is printed.
"""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import quadratic
from configs.base import HeldOut
from learned_opt_lab import runs
from learned_opt_lab.cli.main import main
from outer_train.run import metrics
from outer_train.run.checkpoint import Checkpoints

ROOT = Path(__file__).parents[3]
CONFIG = dataclasses.replace(
    quadratic.config,
    family=dataclasses.replace(quadratic.config.family, dim=2),
    optimizer=dataclasses.replace(quadratic.config.optimizer, hidden_sizes=(2,)),
    problem=dataclasses.replace(quadratic.config.problem, num_steps=8),
    estimator=dataclasses.replace(quadratic.config.estimator, num_pairs=2),
    truncation=dataclasses.replace(quadratic.config.truncation, num_steps=2),
    held_out=HeldOut(num_tasks=2, num_steps=5),
    num_outer_steps=3,
)
FLAGS = [
    "--family.dim", "2", "--optimizer.hidden-sizes", "2", "--problem.num-steps", "8",
    "--estimator.num-pairs", "2", "--truncation.num-steps", "2", "--held-out.num-tasks", "2",
    "--held-out.num-steps", "5", "--num-outer-steps", "3",
]  # fmt: skip


def rows(run: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in metrics.read_rows(run / "metrics.jsonl")
    ]


def theta(run: Path) -> dict[str, bytes]:
    with np.load(run / "theta.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def names(run: Path) -> set[str]:
    """Files and folders of a run; those of a checkpoint are Orbax's matter."""
    return {str(each.relative_to(run)) for each in run.rglob("*") if "checkpoints" not in str(each)}


@pytest.fixture(scope="module")
def commanded(tmp_path_factory) -> Path:
    """A run of the command."""
    run = tmp_path_factory.mktemp("commanded") / "run"
    assert (
        main(["train", "quadratic", *FLAGS, "--run-dir", str(run), "--no-compilation-cache"]) == 0
    )
    return run


def test_python_does_what_the_command_does_and_prints_nothing(commanded, tmp_path, capfd):
    run = tmp_path / "run"
    result = runs.train(CONFIG, run)
    assert capfd.readouterr() == ("", "")
    assert (result.run.path, result.signal) == (run, None)
    assert rows(run) == rows(commanded)
    assert [row["outer_step"] for row in rows(run)] == [0, 1, 2]
    assert theta(run) == theta(commanded)
    assert names(run) == names(commanded)
    assert (run / "config.json").read_bytes() == (commanded / "config.json").read_bytes()
    stored = json.loads((run / "summary.json").read_text())
    assert result.summary == stored
    assert stored["heldout"] == json.loads((commanded / "summary.json").read_text())["heldout"]
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.theta)]
    assert sorted(leaves) == sorted(theta(run).values())


def test_a_run_that_was_stopped_goes_on_bitwise(commanded, tmp_path, monkeypatch, capfd):
    run, seal, steps = tmp_path / "run", Checkpoints.seal, []

    def stop_after_two(self):
        steps.append(len(steps))
        if len(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        seal(self)

    monkeypatch.setattr(Checkpoints, "seal", stop_after_two)
    stopped = runs.train(CONFIG, run)
    assert (stopped.signal, stopped.summary) == (signal.SIGTERM, None)
    assert len(rows(run)) == 2
    result = runs.resume(run)
    assert len(steps) == 3
    assert (result.signal, result.summary["num_outer_steps"]) == (None, 3)
    assert rows(run) == rows(commanded)
    assert theta(run) == theta(commanded)
    assert capfd.readouterr() == ("", "")


def test_errors_are_exceptions_and_nothing_is_written(commanded, tmp_path, capfd):
    before = {path: path.stat().st_mtime_ns for path in commanded.rglob("*")}
    with pytest.raises(ValueError, match="holds a run"):
        runs.train(CONFIG, commanded)
    with pytest.raises(
        ValueError, match="was started in step; its checkpoints go on with that engine only"
    ):
        runs.resume(commanded, engine=runs.Ray())
    none = dataclasses.replace(CONFIG, estimator=dataclasses.replace(CONFIG.estimator, num_pairs=0))
    for engine in (runs.InStep(), runs.Ray()):
        with pytest.raises(ValueError, match=r"num_pairs must be .* 0"):
            runs.train(none, tmp_path / "run", engine=engine)
    with pytest.raises(ValueError, match="2 pairs do not divide over 3 gradients a step"):
        runs.train(CONFIG, tmp_path / "run", engine=runs.Ray(num_workers=3))
    with pytest.raises(ValueError, match=r"num_devices must lie in \[1, 8\]"):
        runs.train(CONFIG, tmp_path / "run", engine=runs.InStep(num_devices=9))
    with pytest.raises(ValueError, match="TrainConfig, got 'quadratic'"):
        runs.train("quadratic", tmp_path / "run")
    with pytest.raises(ValueError, match="run_dir must name a directory"):
        runs.train(CONFIG, "")
    with pytest.raises(ValueError, match="holds no run"):
        runs.resume(tmp_path)
    with pytest.raises(ValueError, match="must be above 0"):
        runs.InStep(connect_timeout=0)
    assert {path: path.stat().st_mtime_ns for path in commanded.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_changed_config_goes_on_if_that_is_allowed(commanded, tmp_path):
    run = Path(shutil.copytree(commanded, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(
        json.dumps(config | {"family": config["family"] | {"type": "Nothing"}})
    )
    with pytest.raises(ValueError, match=r"config\.json was changed since the run began"):
        runs.resume(run)
    with pytest.raises(ValueError, match=r"config\.json: unknown config type 'Nothing'"):
        runs.resume(run, allowed=runs.Allowed(changed_config=True))


def test_what_a_run_shows_goes_where_it_is_told(commanded, capfd):
    told, seen = [], []

    class Seen:
        def update(self, row, smoothed_loss):
            seen.append(row["outer_step"])

        def close(self):
            seen.append("closed")

    # Complete already, it is scored again.
    result = runs.resume(
        commanded, show=runs.Show(told.append, told.append, lambda num_steps, first: Seen())
    )
    assert result.summary["num_outer_steps"] == 3
    assert told[:2] == [f"run directory: {commanded}", "building the run"]
    assert "scoring 2 held-out tasks" in told
    assert told[-1] == f"theta, summary.json and figures are in {commanded}"
    assert seen == ["closed"]
    assert capfd.readouterr() == ("", "")


def test_the_face_is_light():
    code = """
import sys
from learned_opt_lab import runs
assert {"train", "resume", "TERMINAL"} <= {*dir(runs)} and "jax" not in sys.modules
from learned_opt_lab.runs import InStep
assert "jax" in sys.modules and not hasattr(runs, "nothing")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
