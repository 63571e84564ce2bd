"""`compare`: what runs have reached, and only the fields in which their configs differ."""

import json
import re

import numpy as np
import pytest

from learned_opt_lab.cli.main import main
from tests.support.lab.watched import made_up_rows, made_up_run


@pytest.fixture
def sweep(tmp_path):
    for seed in (0, 1):
        made_up_run(tmp_path / "sweep" / f"seed-{seed}", seed=seed, complete=seed == 0)
    made_up_run(tmp_path / "other", 40, estimator={"type": "MES", "std": 0.01, "name|": None})
    return tmp_path


def test_a_table_of_runs_and_of_what_differs(sweep, capsys):
    assert main(["compare", str(sweep / "sweep"), str(sweep / "other")]) == 0
    shown = capsys.readouterr().out
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in shown.splitlines()]
    table = {row[0].strip(): row for row in cells if len(row) > 1}
    losses = [row["outer_loss"] for row in made_up_rows(120)[-6:]]
    assert float(table["seed-0"][1]) == pytest.approx(np.mean(losses), rel=6e-3)
    assert float(table["seed-0"][2]) == pytest.approx(np.std(losses, ddof=1), rel=6e-3)
    assert table["seed-0"][3:] == ["0.25", "0.5", "120", "19,200", "1:00", "complete"]
    assert table["seed-1"][3:] == ["–", "–", "120", "19,200", "1:00", "stopped"]
    assert table["seed"][1:] == ["0", "1", "0"]
    assert table["estimator.std"][1:] == ["–", "–", "0.01"]
    assert "num\\_outer\\_steps" not in shown
    assert "num_outer_steps" not in shown


def test_runs_that_do_not_differ(tmp_path, capsys):
    for name in ("a", "b"):
        made_up_run(tmp_path / name, 3)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "The configs do not differ." in capsys.readouterr().out


def test_what_it_writes(sweep, capsys):
    out = sweep / "out"
    assert main(["compare", str(sweep / "sweep"), str(sweep / "other"), "--out", str(out)]) == 0
    names = ["compare.html", "compare.json", "compare.md", "outer_loss.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    found = json.loads((out / "compare.json").read_text())
    assert [run["label"] for run in found["runs"]] == ["seed-0", "seed-1", "other"]
    assert found["runs"][0]["held_out"] == 0.25
    assert found["runs"][1]["held_out"] is None
    assert found["runs"][2]["inner_steps"] == 40 * 160
    assert found["differences"]["seed"] == {"seed-0": 0, "seed-1": 1, "other": 0}
    assert found["differences"]["estimator.std"] == {"other": 0.01}
    assert (out / "outer_loss.png").read_bytes().startswith(b"\x89PNG")
    assert "3 runs side by side" in (out / "compare.html").read_text(encoding="utf-8")
    assert (out / "compare.md").read_text(encoding="utf-8") in capsys.readouterr().out


def test_runs_without_rows_are_drawn(tmp_path):
    for name in ("a", "b"):
        made_up_run(tmp_path / name, 0)
    assert main(["compare", str(tmp_path), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("argv", [[], ["run"], ["run", "run"], ["run", "nowhere"]])
def test_bad_input(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made_up_run(tmp_path / "run", 3)
    assert main(["compare", *argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert re.search("at least two runs|holds no run|needs RUNS", lines[0])
    assert len(lines) <= 3
