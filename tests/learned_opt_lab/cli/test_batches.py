"""Seeds and sweeps: which runs they are, that they go on, and the table at the end."""

import dataclasses
import json
from pathlib import Path

import pytest

from learned_opt_lab import runs
from learned_opt_lab.cli import batches
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.config_json import to_json
from outer_train.run import RunDirectory

QUADRATIC = catalog.load("quadratic")[0]


def names(seeds=(), sweep=()):
    return [each.path.name for each in batches.members(QUADRATIC, Path("out"), seeds, sweep)]


def test_folders_are_named_after_the_values():
    assert names(seeds=(0, 3)) == ["seed-0", "seed-3"]
    assert names(sweep=("estimator.std=0.01,0.03", "--num-outer-steps=2,4")) == [
        "std-0.01_num_outer_steps-2", "std-0.01_num_outer_steps-4",
        "std-0.03_num_outer_steps-2", "std-0.03_num_outer_steps-4",
    ]  # fmt: skip
    assert names((1,), ("estimator=merged", "optimizer.hidden_sizes=4 4,8")) == [
        "estimator-merged_hidden_sizes-4-4_seed-1", "estimator-merged_hidden_sizes-8_seed-1",
    ]  # fmt: skip
    (one,) = batches.members(QUADRATIC, Path("out"), (7,), ("estimator.std=0.5",))
    estimator = dataclasses.replace(QUADRATIC.estimator, std=0.5)
    assert one.config == dataclasses.replace(QUADRATIC, seed=7, estimator=estimator)


@pytest.mark.parametrize(
    ("seeds", "sweep", "message"),
    [
        ((), ("estimator.std",), "--sweep takes FIELD=VALUE,VALUE"),
        ((), ("estimator.std=0.1,",), "--sweep takes FIELD=VALUE,VALUE"),
        (
            (),
            ("estimator.stdd=1",),
            "unknown option --estimator.stdd; did you mean",
        ),
        ((), ("estimator.std=x",), "--estimator.std must be a number, got 'x'"),
        ((), ("seed=1",), "each field is swept once"),
        ((), ("estimator.std=1,1",), "values of estimator.std must differ"),
        ((), ("num_outer_steps=" + ",".join(map(str, range(1, 40))),), "more than 1000 runs"),
    ],
)
def test_what_is_no_sweep(seeds, sweep, message):
    seeds = tuple(range(30)) if "1000" in message else (2,) if "once" in message else seeds
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        batches.members(QUADRATIC, Path("out"), seeds, sweep)
    assert message in str(caught.value)


@pytest.fixture
def called(monkeypatch):
    """Calls of `train` and `resume`, which write what makes a run; the loss is the seed."""
    calls = []

    def end(config, path, call):
        calls.append((call, Path(path).name))
        run = RunDirectory(Path(path))
        run.path.mkdir(parents=True, exist_ok=True)
        run.config.write_text(json.dumps(to_json(config)))
        if config.seed == 13:
            return runs.RunResult(run, None, None, 2)
        scored = {"learned": 1.0 + config.seed, "adam_tuned": 2.0, "num_tasks": 4}
        summary = {"outer_loss_first": 3.0, "outer_loss_last": 1.0, "heldout": scored}
        run.summary.write_text(json.dumps(summary))
        return runs.RunResult(run, None, summary, None)

    monkeypatch.setattr(
        "learned_opt_lab.runs.course.train",
        lambda config, path, **others: end(config, path, "train"),
    )
    monkeypatch.setattr(
        "learned_opt_lab.runs.course.resume",
        lambda path, **others: end(dataclasses.replace(QUADRATIC, seed=1), path, "resume"),
    )
    return calls


def test_a_batch_goes_on_where_it_was(called, tmp_path, capsys):
    out = tmp_path / "batch"
    argv = ["train", "quadratic", "--no-compilation-cache", "--run-dir", str(out), "--seeds"]
    assert main([*argv, "0", "1"]) == 0
    assert called == [("train", "seed-0"), ("train", "seed-1")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:-1] == [
        "seed-1           1         2           2",
        "seed-0 has the lowest score of 2 runs, 1",
    ]
    assert lines[-1].startswith(f"next: learned-opt evaluate {out}/seed-0 adam")
    called.clear()
    (out / "seed-1" / "summary.json").unlink()
    assert main([*argv, "0", "1", "2", "--json"]) == 0
    assert called == [("resume", "seed-1"), ("train", "seed-2")]
    found = json.loads(capsys.readouterr().out)
    assert [each["score"] for each in found["runs"]] == [1.0, 2.0, 3.0]
    assert found["runs"][2]["values"] == {"seed": "2"}


def test_a_signal_stops_the_batch(called, tmp_path, capsys):
    argv = ["train", "quadratic", "--no-compilation-cache", "--run-dir", str(tmp_path / "b")]
    assert main([*argv, "--seeds", "13", "14"]) == 130
    assert called == [("train", "seed-13")]
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "stopped at run 1 of 2; the same command goes on"


def test_a_folder_of_another_run_is_refused_before_any_starts(called, tmp_path, capsys):
    argv = ["train", "quadratic", "--no-compilation-cache", "--run-dir", str(tmp_path / "b")]
    assert main([*argv, "--seeds", "1"]) == 0
    assert main([*argv, "--seeds", "0", "1", "--num-outer-steps", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed-1 holds a run of another config" in line
    assert called == [("train", "seed-1")]


SWEEPS = {
    "--sweep estimator.std=0.01,-1,0.02": "std must be",
    "--sweep num_outer_steps=2,0": "num_outer_steps must be at least 1, got 0",
    "--sweep optimizer.hidden_sizes=4,0": "hidden_sizes",
    "--sweep family.dim=4,0": "dim must be",
    "--sweep truncation.num_steps=10,1000": "the truncation grows to 1000 inner steps",
    "--sweep outer_optimizer.learning_rate=1e-3,-1": "learning_rate",
    "--sweep estimator.num_pairs=2,3 --num-devices 2": "3 pairs do not divide over 2 devices",
    "--seeds 0 4294967296": "seed must be a whole number within",
}
"""What is said of the second run."""


@pytest.mark.parametrize("line", SWEEPS)
def test_all_runs_are_checked_before_the_first(line, called, tmp_path, capsys):
    argv = ["train", "quadratic", "--no-compilation-cache", "--run-dir", str(tmp_path / "b")]
    assert main([*argv, *line.split()]) == 2
    assert SWEEPS[line] in capsys.readouterr().err
    assert called == []


@pytest.mark.parametrize(
    "summary",
    [
        {"heldout": 3},
        {"heldout": {"learned": "1", "adam_tuned": 2.0}},
        {"training_family": {"learned": True}},
        {"outer_loss_last": "low"},
        {"outer_loss_last": [1]},
    ],
)
def test_a_damaged_summary_is_named(summary, called, tmp_path, capsys):
    argv = ["train", "quadratic", "--no-compilation-cache", "--run-dir", str(tmp_path / "b")]
    assert main([*argv, "--seeds", "1"]) == 0
    path = tmp_path / "b" / "seed-1" / "summary.json"
    path.write_text(json.dumps(summary))
    capsys.readouterr()
    assert main([*argv, "--seeds", "0", "1"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: {path} is damaged: ")
    assert called == [("train", "seed-1")]
    path.unlink()
    assert main([*argv, "--seeds", "1"]) == 0
    assert called[1:] == [("resume", "seed-1")]
    path.write_text(json.dumps({"heldout": None, "outer_loss_last": None}))
    assert main([*argv, "--seeds", "1"]) == 0
