"""`learned-opt train --engine ray`:
as good as in step, and it goes on after its learner is killed.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import quickstart
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs.build import build
from outer_train.run import LoopSettings, directory, loop, metrics

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning",
    "ignore::ResourceWarning",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)

TIMEOUT = 400
"""Seconds; an idle machine needs about 20."""
SMALL = quickstart.config.family
NUM_STEPS, NUM_PAIRS = 120, 8
CONFIG = dataclasses.replace(
    quickstart.config,
    family=dataclasses.replace(SMALL, hidden_sizes=(8,), batch_size=16),
    problem=dataclasses.replace(quickstart.config.problem, num_steps=40),
    estimator=dataclasses.replace(quickstart.config.estimator, num_pairs=NUM_PAIRS),
    truncation=dataclasses.replace(quickstart.config.truncation, num_steps=10),
    num_outer_steps=NUM_STEPS,
)
FLAGS = ["--family.hidden-sizes", "8", "--family.batch-size", "16", "--problem.num-steps", "40"]
FLAGS += [
    "--estimator.num-pairs",
    str(NUM_PAIRS),
    "--truncation.num-steps",
    "10",
    "--held-out.num-tasks",
    "0",
]
RAY = [
    "--engine",
    "ray",
    "--num-workers",
    "2",
    "--connect-timeout",
    "200",
    "--no-compilation-cache",
]


def late_loss(rows, num_inner_steps):
    """Mean outer loss over the last third of the first `num_inner_steps`."""
    chosen = [
        r["outer_loss"]
        for r in rows
        if num_inner_steps * 2 / 3 < r["inner_steps"] <= num_inner_steps
    ]
    return float(np.mean(chosen))


@pytest.mark.slow
def test_as_good_as_in_step_after_the_same_inner_steps(tmp_path):
    """Quickstart's problem with fewer pairs and smaller networks:
    within the noise of four seeds in step.
    """
    built, in_step = build(CONFIG, 2), []
    for seed in range(4):
        run = directory.create(
            tmp_path / str(seed), {"type": "test"}, config_file=None, overwrite=False
        )
        settings = LoopSettings(NUM_STEPS, checkpoint_every=1000)
        loop.train(built.step, built.theta, jax.random.key(seed), built.datas, run, settings)
        in_step.append(metrics.read_rows(run.metrics))
    argv = ["train", "quickstart", *FLAGS, *RAY, "--run-dir", str(tmp_path / "ray")]
    assert main([*argv, "--num-outer-steps", str(NUM_STEPS)]) == 0
    rows = metrics.read_rows(tmp_path / "ray" / "metrics.jsonl")
    budget = min(run[-1]["inner_steps"] for run in (rows, *in_step))
    assert budget > 0.8 * NUM_STEPS * NUM_PAIRS * 2 * 10 * 0.8
    losses = [late_loss(run, budget) for run in in_step]
    began = float(np.mean([run[0]["outer_loss"] for run in in_step]))
    assert np.mean(losses) < 0.9 * began  # there was something to learn
    assert abs(late_loss(rows, budget) - np.mean(losses)) < 5 * max(
        np.std(losses, ddof=1), 0.01 * began
    )
    summary = json.loads((tmp_path / "ray" / "summary.json").read_text())["workers"]
    assert summary["num_gradients"] >= 2 * NUM_STEPS
    assert 0 <= summary["worker_idle"] < 1


@pytest.mark.slow
def test_a_killed_learner_goes_on_from_its_checkpoint(tmp_path):
    run = tmp_path / "run"
    argv = [
        "train",
        "quadratic",
        "--optimizer.hidden-sizes",
        "4",
        "--estimator.num-pairs",
        "4",
        "--run-dir",
        str(run),
    ]
    argv += [
        "--held-out.num-tasks",
        "0",
        "--checkpoint-every",
        "20",
        "--num-outer-steps",
        "100000",
        *RAY,
    ]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu"
    }
    root = Path(__file__).parents[3]
    learner = subprocess.Popen(
        [sys.executable, "-m", "learned_opt_lab.cli.main", *argv],
        env=environment,
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + TIMEOUT
    while len(metrics.read_rows(run / "metrics.jsonl")) < 70:
        assert learner.poll() is None, learner.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    learner.send_signal(signal.SIGKILL)
    learner.communicate()
    rows = len(metrics.read_rows(run / "metrics.jsonl"))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"num_outer_steps": rows + 20}))
    assert main(["resume", str(run), "--allow-changed-config", *RAY[2:]]) == 0
    rows_now = metrics.read_rows(run / "metrics.jsonl")
    assert [row["outer_step"] for row in rows_now] == list(range(rows + 20))
    counted = [name for row in rows_now for name in row["gradients"]]
    assert len(counted) == len(set(counted)) >= 2 * (rows + 20)
    assert main(["resume", str(run), "--engine", "in-step"]) == 2
