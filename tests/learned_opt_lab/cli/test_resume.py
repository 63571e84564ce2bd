"""Runs that are stopped, killed and damaged, in processes of their own, go on as if left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from outer_train.run import metrics

SETTINGS = [
    "--num-outer-steps",
    "1200",
    "--checkpoint-every",
    "100",
    "--num-devices",
    "2",
    "--held-out.num-tasks",
    "0",
]
TIMEOUT = 1200
"""Seconds; an idle machine needs about 15."""


def start(*argv: str, cache: Path) -> subprocess.Popen:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "learned_opt_lab.cli.main", *argv],
        env=environment,
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_at(
    process: subprocess.Popen, run: Path, num_rows: int, number: signal.Signals
) -> tuple[int, str]:
    """Sends the signal once so many rows are on disk; returns exit status and stderr."""
    deadline = time.monotonic() + TIMEOUT
    while (
        not (run / "metrics.jsonl").exists()
        or (run / "metrics.jsonl").read_bytes().count(b"\n") < num_rows
    ):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, errors


def damage_newest(run: Path) -> int:
    step = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    for path in (run / "checkpoints" / str(step)).rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-1])
    return step


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> dict:
    """One run that is left alone, and one that is stopped, killed,
    interrupted and damaged, and resumed each time.
    """
    directory = tmp_path_factory.mktemp("runs")
    cache, whole, broken = directory / "cache", directory / "whole", directory / "broken"
    process = start("train", "quadratic", "--run-dir", str(whole), *SETTINGS, cache=cache)
    process.stdout.close()  # as after `| head`: nobody reads, and the run goes on
    process.stdout = None
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    seen = {"whole": whole, "broken": broken}
    train = start("train", "quadratic", "--run-dir", str(broken), *SETTINGS, cache=cache)
    seen["term"] = stop_at(train, broken, 50, signal.SIGTERM)
    seen["rows_after_term"] = len(metrics.read_rows(broken / "metrics.jsonl"))
    resume = lambda *argv: start("resume", str(broken), *argv, cache=cache)
    seen["kill"] = stop_at(resume("--num-devices", "2"), broken, 450, signal.SIGKILL)
    seen["rows_after_kill"] = len(metrics.read_rows(broken / "metrics.jsonl"))
    seen["int"] = stop_at(resume("--num-devices", "2"), broken, 700, signal.SIGINT)
    seen["damaged"] = damage_newest(broken)
    last = resume("--num-devices", "2")
    _, errors = last.communicate(timeout=TIMEOUT)
    return seen | {"last": (last.returncode, errors)}


def rows_without_timings(run: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in metrics.read_rows(run / "metrics.jsonl")
    ]


def test_signals_save_and_exit_with_128_and_their_number(history):
    assert history["term"][0] == 143
    assert history["int"][0] == 130
    assert history["kill"][0] == -signal.SIGKILL
    for name in ("term", "int"):
        assert "Traceback" not in history[name][1]
        assert "learned-opt resume" in history[name][1]


def test_a_signal_loses_no_step(history):
    assert 50 <= history["rows_after_term"] < 1200


def test_killed_and_resumed_is_bitwise_the_run_left_alone(history):
    assert history["last"][0] == 0, history["last"][1]
    assert history["rows_after_kill"] >= 450
    rows = rows_without_timings(history["whole"])
    assert len(rows) == 1200
    assert rows_without_timings(history["broken"]) == rows
    thetas = [np.load(history[name] / "theta.npz") for name in ("whole", "broken")]
    for name in thetas[0].files:
        assert thetas[0][name].tobytes() == thetas[1][name].tobytes()


def test_damaged_newest_checkpoint_falls_back_with_a_warning(history):
    warnings = history["last"][1].splitlines()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: checkpoint {history['damaged']} is damaged")


PHASES = {"building the run": False, "scoring 64": True}
"""What the command tells, before the outer loop or after it -> whether there is a run then."""


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_is_stopped_outside_of_its_outer_loop(phase, tmp_path):
    run = tmp_path / "run"
    small = ["--num-outer-steps", "2", "--estimator.num-pairs", "2", "--num-devices", "1"]
    scored = ["--held-out.num-tasks", "64", "--held-out.num-steps", "20000"]
    words = ["train", "quadratic", *small, *scored, "--run-dir", str(run)]
    process = start(*words, cache=tmp_path)
    told = ""
    while phase not in told:
        told = process.stdout.readline()
        assert told, process.communicate()[1]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143
    (line,) = errors.splitlines()
    if not PHASES[phase]:
        assert line == "stopped before the run began; the same command starts it"
        assert not run.exists()
        return
    assert line == f"stopped; go on with `learned-opt resume {run}`"
    assert not (run / "run.lock").exists()
