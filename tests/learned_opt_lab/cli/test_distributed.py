"""`learned-opt train` on several processes or workers, as a user starts it:
losses, mismatches, silence.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from learned_opt_lab.cli.main import main
from learned_opt_lab.runs.engines import in_step
from outer_train.processes import cluster
from outer_train.run import metrics

TIMEOUT = 1200
"""Seconds; an idle machine needs about 15."""
QUICK = ["--optimizer.hidden-sizes", "4", "--estimator.num-pairs", "4", "--held-out.num-tasks", "0"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(*argv):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu"
    }
    return subprocess.Popen(
        [sys.executable, "-m", "learned_opt_lab.cli.main", *argv, "--no-compilation-cache"],
        env=environment,
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_pair(*argv, each=((), ())):
    where = [
        "--coordinator",
        f"127.0.0.1:{free_port()}",
        "--num-processes",
        "2",
        "--num-devices",
        "2",
    ]
    where += ["--connect-timeout", "600"]
    return [start(*argv, *where, "--process-id", str(i), *each[i]) for i in range(2)]


def wait_for_rows(run, num_rows, *processes):
    deadline = time.monotonic() + TIMEOUT
    while len(metrics.read_rows(run / "metrics.jsonl")) < num_rows:
        assert all(process.poll() is None for process in processes), [
            p.communicate()[1] for p in processes
        ]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def error_lines(text):
    return [line for line in text.splitlines() if line.startswith("error:")]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_and_one_resumes(tmp_path, lost, capsys):
    run = tmp_path / "run"
    pair = start_pair(
        "train",
        "quadratic",
        "--run-dir",
        str(run),
        *QUICK,
        "--num-outer-steps",
        "4000",
        "--checkpoint-every",
        "20",
    )
    wait_for_rows(run, 50, *pair)
    pair[lost].send_signal(signal.SIGKILL)
    # Its connections break, so nobody waits for a missed heartbeat,
    # not even for that of the coordinator.
    _, errors = pair[1 - lost].communicate(timeout=cluster.HEARTBEAT_TIMEOUT)
    assert pair[1 - lost].returncode == in_step.LOST_PROCESS
    pair[lost].communicate()
    told = error_lines(errors)
    assert len(told) == 1, errors
    assert f"process {1 - lost} lost another process of this run (process {lost} ended)" in told[0]
    assert f"learned-opt resume {run}" in told[0]
    # On fewer: one process, which takes the others' particles too.
    # The run is shortened to what is left to see.
    config = json.loads((run / "config.json").read_text())
    last = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    (run / "config.json").write_text(json.dumps(config | {"num_outer_steps": last + 20}))
    changed = ["--allow-changed-config", "--num-devices", "2", "--no-compilation-cache"]
    assert main(["resume", str(run), *changed]) == 0
    rows = metrics.read_rows(run / "metrics.jsonl")
    assert [row["outer_step"] for row in rows] == list(range(last + 20))
    assert np.isfinite([row["outer_loss"] for row in rows]).all()
    assert json.loads((run / "summary.json").read_text())["num_devices"] == 2


@pytest.mark.slow
def test_two_processes_are_scored_by_the_first(tmp_path):
    run = tmp_path / "run"
    scored = [*QUICK[:-1], "2", "--held-out.num-steps", "5", "--num-outer-steps", "3"]
    for process in start_pair("train", "quadratic", "--run-dir", str(run), *scored):
        _, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, errors
    summary = json.loads((run / "summary.json").read_text())
    assert summary["num_processes"] == 2
    assert np.isfinite([summary["heldout"][name] for name in ("learned", "adam_tuned")]).all()


def test_another_config_ends_both_with_one_line(tmp_path):
    pair = start_pair(
        "train", "quadratic", "--run-dir", str(tmp_path / "run"), *QUICK, each=((), ("--seed", "7"))
    )
    for process in pair:
        _, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 2
        assert errors.splitlines() == ["error: config.seed is 0 in process 0 and 7 in process 1"]
    assert not (tmp_path / "run").exists()


UNREACHABLE = {
    "coordinator": (
        ["--coordinator", "127.0.0.1:{}", "--num-processes", "2", "--process-id", "1"],
        "the coordinator",
    ),
    "ray": (["--engine", "ray", "--ray-address", "127.0.0.1:{}"], "the Ray cluster at"),
}


@pytest.mark.parametrize("engine", UNREACHABLE)
def test_what_cannot_be_reached_is_named_in_time(tmp_path, capsys, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    flags, what = UNREACHABLE[engine]
    argv = ["train", "quadratic", "--run-dir", str(tmp_path / "run"), "--connect-timeout", "0.5"]
    started = time.monotonic()
    assert main([*argv, *(flag.format(free_port()) for flag in flags)]) == 2
    assert time.monotonic() - started < 30
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {what}")
    assert "cannot be reached within 0.5 s" in line


def test_without_ray_the_flag_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "ray" else found(name, *more),
    )
    assert main(["train", "quadratic", "--engine", "ray", "--run-dir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == "error: --engine ray needs Ray, which is not installed: pip install 'learned-opt[ray]'"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--coordinator", "host:1"],
            "several processes need --coordinator, --num-processes and --process-id",
        ),
        (["--distributed"], "JAX finds no cluster here"),
        (["--max-staleness", "3"], "--max-staleness is for --engine ray"),
        (["--engine", "ray", "--process-id", "0"], "--engine ray takes no --distributed"),
        (
            ["--engine", "ray", "--gradients-per-step", "0"],
            "--gradients-per-step must be at least 1",
        ),
        (["--connect-timeout", "0"], "--connect-timeout must be above 0"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, capsys, flags, message):
    assert main(["train", "quadratic", "--run-dir", str(tmp_path / "run"), *flags]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
