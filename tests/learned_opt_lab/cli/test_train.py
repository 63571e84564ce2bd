"""`learned-opt train` as a user runs it: what a run directory holds, and what is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import learned_opt
from learned_opt_lab.cli.main import main
from outer_train.run import lock, metrics
from tests.support.synthetic import write_synthetic_imagenet


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
