"""`learned-opt train` as a user runs it:
results, signals, kills and damage, in processes of their own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import learned_opt
from learned_opt_lab.cli.main import main
from outer_train.run import lock, metrics
from tests.support.synthetic import write_synthetic_imagenet

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


@pytest.mark.slow
def test_signals_save_and_exit_with_128_and_their_number(history):
    assert history["term"][0] == 143
    assert history["int"][0] == 130
    assert history["kill"][0] == -signal.SIGKILL
    for name in ("term", "int"):
        assert "Traceback" not in history[name][1]
        assert "learned-opt resume" in history[name][1]


@pytest.mark.slow
def test_a_signal_loses_no_step(history):
    assert 50 <= history["rows_after_term"] < 1200


@pytest.mark.slow
def test_killed_and_resumed_is_bitwise_the_run_left_alone(history):
    assert history["last"][0] == 0, history["last"][1]
    assert history["rows_after_kill"] >= 450
    rows = rows_without_timings(history["whole"])
    assert len(rows) == 1200
    assert rows_without_timings(history["broken"]) == rows
    thetas = [np.load(history[name] / "theta.npz") for name in ("whole", "broken")]
    for name in thetas[0].files:
        assert thetas[0][name].tobytes() == thetas[1][name].tobytes()


@pytest.mark.slow
def test_damaged_newest_checkpoint_falls_back_with_a_warning(history):
    warnings = history["last"][1].splitlines()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: checkpoint {history['damaged']} is damaged")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A small whole run with merged estimators, a held-out score and figures, in this process."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(run.parent / "cache"))
        argv = [
            "train",
            "quadratic",
            "estimator:merged",
            "--run-dir",
            str(run),
            "--no-compilation-cache",
        ]
        argv += [
            "--estimator.num-pairs",
            "4",
            "--estimator.chunk-size",
            "10",
            "--optimizer.hidden-sizes",
            "4",
            "4",
        ]
        argv += [
            "--held-out.num-tasks",
            "20",
            "--held-out.num-steps",
            "10",
            "--tensorboard",
            "--num-outer-steps",
            "12",
        ]
        assert main(argv) == 0
    return run


def test_a_run_directory_holds_everything(trained):
    names = {path.name for path in trained.iterdir()}
    expected = {
        "config.json",
        "versions.json",
        "metrics.jsonl",
        "summary.json",
        "theta.npz",
        "theta.json",
    }
    assert expected | {"figures", "checkpoints", "tensorboard", "heldout_curves.npz"} <= names
    assert {"outer_loss.png", "merge_weights.png", "heldout.png"} <= {
        p.name for p in (trained / "figures").iterdir()
    }
    versions = json.loads((trained / "versions.json").read_text())
    assert versions["jax"]
    assert versions["python"].startswith("3.")


def test_rows_carry_the_share_of_the_merge(trained):
    rows = metrics.read_rows(trained / "metrics.jsonl")
    assert [row["outer_step"] for row in rows] == list(range(12))
    assert all(0 <= row["weight_reparameterization"] <= 1 for row in rows)
    for row in rows:
        shares = row["weight_reparameterization"] + row["weight_evolution_strategies"]
        assert shares == pytest.approx(1, abs=1e-5)


def test_summary_nests_the_held_out_scores(trained):
    summary = json.loads((trained / "summary.json").read_text())
    curves = np.load(trained / "heldout_curves.npz")
    assert summary["outer_loss_window"] == 5
    for name in ("learned", "untrained", "adam_1e-3", "adam_tuned"):
        assert curves[name].shape == (20, 10)
        assert summary["heldout"][name] == pytest.approx(curves[name].mean(), rel=1e-6)
    # Tuned on the same tasks over a grid that holds 1e-3, and the quadratics are free of noise.
    assert summary["heldout"]["adam_tuned"] <= summary["heldout"]["adam_1e-3"]


def test_theta_goes_into_optax_and_on_training(trained):
    optimizer, theta = learned_opt.load_theta(trained / "theta.npz")
    params = {"w": np.ones(3, np.float32)}
    transformation = learned_opt.load(trained)
    updates, _ = transformation.update(params, transformation.init(params), params)
    same, _ = optimizer.optimizer(theta).update(params, transformation.init(params), params)
    np.testing.assert_array_equal(updates["w"], same["w"])
    assert np.abs(updates["w"]).max() > 0


def test_overwrite_is_asked_for(trained, capsys):
    before = (trained / "metrics.jsonl").read_bytes()
    assert main(["train", "quadratic", "--run-dir", str(trained)]) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (trained / "metrics.jsonl").read_bytes() == before


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def refused(argv, capsys) -> list[str]:
    """The lines of an error after which nothing has been changed."""
    path = Path(argv[1] if argv[0] == "resume" else argv[argv.index("--run-dir") + 1])
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    assert main(argv) == 2
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 5
    return lines


@pytest.mark.parametrize("argv", [["resume"], ["train", "quadratic", "--overwrite", "--run-dir"]])
def test_a_run_that_still_trains_has_one_writer(copied, capsys, argv):
    process = subprocess.Popen(["sleep", "600"])
    try:
        owner = lock._me(copied) | {"pid": process.pid, "started": lock.process_start(process.pid)}
        (copied / lock.NAME).write_text(json.dumps(owner))
        lines = refused([*argv, str(copied)], capsys)
    finally:
        process.kill()
        process.wait()
    assert f"is being written by process {process.pid} on" in lines[0]


def test_a_changed_config_stops_resume(copied, capsys):
    text = (copied / "config.json").read_text()
    (copied / "config.json").write_text(
        text.replace('"num_outer_steps": 12', '"num_outer_steps": 14')
    )
    lines = refused(["resume", str(copied)], capsys)
    assert lines[0].endswith("config.json was changed since the run began")
    assert "--allow-changed-config" in lines[1]


def test_lost_metrics_stop_resume_unless_allowed(copied, capsys):
    (copied / "metrics.jsonl").unlink()
    argv = ["resume", str(copied), "--num-devices", "4", "--no-compilation-cache"]
    lines = refused(argv, capsys)
    assert (
        "metrics.jsonl is missing or has no rows, but the newest checkpoint is of outer step 12"
        in lines[0]
    )
    assert "--allow-missing-rows" in lines[1]


def test_resume_on_another_number_of_devices(trained, capsys):
    """A complete run is scored again and stays as it is;
    its particles are read onto four devices.
    """
    before = (trained / "metrics.jsonl").read_bytes()
    assert main(["resume", str(trained), "--num-devices", "4", "--no-compilation-cache"]) == 0
    assert (trained / "metrics.jsonl").read_bytes() == before
    assert json.loads((trained / "summary.json").read_text())["num_devices"] == 4


@pytest.mark.slow
def test_the_paper_s_config_runs_on_its_synthetic_set(tmp_path):
    """700 and 300 classes, the 20k-weight CNN, merged RP and ES, the growing truncation."""
    write_synthetic_imagenet(tmp_path / "tfds", images_per_class=6, validation_images_per_class=2)
    run = tmp_path / "run"
    argv = [
        "train",
        "metz2019_cnn",
        "--run-dir",
        str(run),
        "--family.data-dir",
        str(tmp_path / "tfds"),
    ]
    argv += ["--family.batch-size", "10", "--family.fractions", "0.25", "0.25", "0.25", "0.25"]
    argv += [
        "--estimator.num-pairs",
        "2",
        "--estimator.chunk-size",
        "5",
        "--problem.num-steps",
        "20",
    ]
    argv += [
        "--truncation.start",
        "4",
        "--truncation.end",
        "20",
        "--truncation.num-outer-steps",
        "2",
    ]
    argv += ["--num-outer-steps", "3", "--held-out.num-tasks", "0", "--no-compilation-cache"]
    assert main(argv) == 0
    rows = metrics.read_rows(run / "metrics.jsonl")
    lengths = [row["truncation_length"] for row in rows]
    assert len(lengths) == 3
    # 4, 12 and 20 inner steps, each times a draw from [.8, 1.2], and never beyond the episode.
    assert all(
        round(0.8 * at) <= length <= round(1.2 * at)
        for at, length in zip((4, 12, 20), lengths, strict=True)
    )
    assert all(np.log(10) / 3 < row["outer_loss"] < 10 for row in rows)
    assert all(0 <= row["weight_reparameterization"] <= 1 for row in rows)
    theta = np.load(run / "theta.npz")
    assert sum(theta[name].size for name in theta.files) == 1090
