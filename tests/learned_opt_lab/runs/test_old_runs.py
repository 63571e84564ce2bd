"""A run directory made before the packages moved goes on, and its theta is evaluated."""

import json
import shutil
from pathlib import Path

import pytest

import learned_opt
from learned_opt_lab.cli.main import main

OLD_RUN = Path(__file__).parents[2] / "support" / "old_run"
"""Stopped at outer step 4 of 400; its family is named by a module of the old layout,
its optimizer by old fields."""


@pytest.fixture
def old_run(tmp_path) -> Path:
    return Path(shutil.copytree(OLD_RUN, tmp_path / "run"))


def test_its_theta_loads():
    optimizer, theta = learned_opt.load_theta(OLD_RUN)
    assert theta["layer_0"]["weights"].shape == (16, 4)
    assert learned_opt.load(OLD_RUN).init({"w": theta["layer_0"]["weights"]}) is not None
    assert optimizer.packed is not None


def test_it_goes_on_and_is_evaluated(old_run, tmp_path, monkeypatch):
    before = old_run.joinpath("metrics.jsonl").read_text(encoding="utf-8").splitlines()
    # Its family is named by a module, as code of anyone would be.
    assert main(["resume", str(old_run), "--no-compilation-cache", "--trust"]) == 0
    rows = old_run.joinpath("metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert rows[: len(before)] == before
    assert [json.loads(row)["outer_step"] for row in rows] == list(range(400))
    summary = json.loads(old_run.joinpath("summary.json").read_text(encoding="utf-8"))
    assert summary["outer_loss_last"] < summary["outer_loss_first"]
