"""What is read of runs: which ones are meant, how far they are, what is wrong with their files."""

import json
import math
import os

import numpy as np
import pytest

from learned_opt_lab.watch import facts
from learned_opt_lab.watch.charts import MOST_POINTS, PANELS, run_charts, run_styles
from learned_opt_lab.watch.comparison import comparison, figure
from learned_opt_lab.watch.reading import Reader, find_runs
from outer_train.run import lock
from tests.support.lab.watched import add_rows, made_up_rows, made_up_run


def watched(*paths):
    return Reader(find_runs(paths)).read()


def fact(run, key):
    return next(f for f in facts.WATCHED if f.key == key).value(run)


def test_a_folder_stands_for_its_runs_in_order(tmp_path):
    for seed in (10, 9, 0):
        made_up_run(tmp_path / "sweep" / f"seed-{seed}", 3)
    made_up_run(tmp_path / "one", 3)
    made_up_run(tmp_path / "deep" / "cells" / "a", 3)
    assert list(find_runs([tmp_path / "sweep"])) == ["seed-0", "seed-9", "seed-10"]
    assert list(find_runs([tmp_path / "one", tmp_path / "sweep" / "seed-9"])) == ["one", "seed-9"]
    assert list(find_runs([tmp_path / "one", tmp_path / "one"])) == ["one"]
    assert list(find_runs([tmp_path / "deep"])) == ["a"]


def test_labels_differ(tmp_path):
    for folder in ("x", "y"):
        made_up_run(tmp_path / folder / "run", 1)
    assert list(find_runs([tmp_path / "x", tmp_path / "y"])) == ["x/run", "y/run"]


@pytest.mark.parametrize("name", ["nothing", "empty", "file"])
def test_what_is_no_run_is_refused(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"{name} holds no run"):
        find_runs([tmp_path / name])


def test_how_far_a_run_is(tmp_path, monkeypatch):
    made_up_run(tmp_path / "run")
    (run,) = watched(tmp_path / "run")
    assert (run.done, run.num_outer_steps, run.state) == (120, 200, "stopped")
    assert run.seconds == 0.5 * 119
    assert run.steps_per_second == 2.0
    assert run.seconds_left is None
    monkeypatch.setattr(lock, "check", lambda path: (_ for _ in ()).throw(ValueError("held")))
    (run,) = watched(tmp_path / "run")
    assert (run.state, run.seconds_left) == ("running", 40.0)


def test_a_run_that_has_no_rows_yet(tmp_path):
    made_up_run(tmp_path / "run", 0)
    (run,) = watched(tmp_path / "run")
    assert (run.done, run.steps_per_second, run.seconds) == (0, None, 0.0)
    assert facts.cells([run], facts.WATCHED)[0][:3] == ["stopped", "0 of 200 (0%)", "–"]
    assert set(run_charts([run], run_styles([run.label])).values()) == {None}


def test_the_outer_loss_and_its_noise(tmp_path):
    made_up_run(tmp_path / "run", 0)
    rows = [row | {"outer_loss": float(i)} for i, row in enumerate(made_up_rows(8))]
    rows[5]["outer_loss"] = None
    add_rows(tmp_path / "run", rows)
    (run,) = watched(tmp_path / "run")
    # Half of the eight rows, of which one is unknown.
    assert fact(run, "outer_loss") == pytest.approx(np.mean([4, 6, 7]))
    assert fact(run, "outer_loss_noise") == pytest.approx(np.std([4, 6, 7], ddof=1))


def test_scores_of_a_complete_run(tmp_path):
    made_up_run(tmp_path / "run", complete=True)
    (run,) = watched(tmp_path / "run")
    assert run.state == "complete"
    assert (fact(run, "held_out"), fact(run, "held_out_adam_tuned")) == (0.25, 0.5)
    assert run.curves["learned"].shape == (4, 30)


def test_only_what_has_changed_is_read_again(tmp_path):
    made_up_run(tmp_path / "run", 3)
    reader = Reader(find_runs([tmp_path / "run"]))
    (before,), (again,) = reader.read(), reader.read()
    assert again.rows is before.rows
    add_rows(tmp_path / "run", made_up_rows(2, first=3))
    (after,) = reader.read()
    assert [row["outer_step"] for row in after.rows] == [0, 1, 2, 3, 4]


def test_damaged_files_are_told_and_left_out(tmp_path):
    run = made_up_run(tmp_path / "run", 3, complete=True)
    with run.metrics.open("a") as file:
        file.write('{"outer_step": "no"}\n')
    run.summary.write_text("[1]")
    run.held_out_curves.write_bytes(b"PK")
    run.versions.unlink()
    (found,) = watched(tmp_path / "run")
    assert (len(found.rows), found.summary, found.curves, found.versions) == (3, None, {}, {})
    assert len(found.trouble) == 3
    assert "line 4 is no row of metrics" in found.trouble[1] + found.trouble[0]


@pytest.mark.parametrize(("rows", "told"), [
    ([{"outer_step": 0}, {"outer_step": 1}], "has no outer_loss in the row of outer step 0"),
    ([row | {"outer_loss": 1e200 * (i + 1)} for i, row in enumerate(made_up_rows(3))], ""),
    ([row | {"seconds": 9e299} for row in made_up_rows(3)], ""),
    ([row | {"seconds": 1e-320} for row in made_up_rows(3)], ""),
    ([row | {"outer_step": 10**250} for row in made_up_rows(1)], "has more than 64 bits"),
    ([row | {"num_steps_not_taken": 10**4000} for row in made_up_rows(2)], "more than 64 bits"),
])  # fmt: skip
def test_rows_that_no_run_writes_are_told_and_shown(rows, told, tmp_path):
    made_up_run(tmp_path / "run", 0)
    made_up_run(tmp_path / "good", 3)
    add_rows(tmp_path / "run", rows)
    found = watched(tmp_path / "run", tmp_path / "good")
    assert ("".join(found[0].trouble) == "") == (told == "")
    assert told in "".join(found[0].trouble)
    assert found[1].trouble == ()
    assert all(len(cell) < 40 for row in facts.cells(found, facts.WATCHED) for cell in row)
    run_charts(found, run_styles([run.label for run in found]))
    json.dumps(comparison(found), allow_nan=False)
    figure(found)


def test_the_noise_of_large_losses_is_finite(tmp_path):
    made_up_run(tmp_path / "run", 0)
    losses = [1e200, 2e200, 4e200, 1e200]
    rows = [row | {"outer_loss": x} for row, x in zip(made_up_rows(4), losses, strict=True)]
    add_rows(tmp_path / "run", rows)
    (found,) = watched(tmp_path / "run")
    assert facts.noise(found) == pytest.approx(np.std([4.0, 1.0], ddof=1) * 1e200)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_lock_is_told_and_the_run_does_not_go_on(kind, tmp_path):
    place = made_up_run(tmp_path / "run", 3).path / lock.NAME
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    (found,) = watched(tmp_path / "run")
    assert found.state == "stopped"
    assert "no regular file" in found.trouble[0]
    assert len(found.rows) == 3


@pytest.mark.parametrize("name", ["metrics.jsonl", "heldout_curves.npz", "summary.json"])
def test_a_pipe_in_a_file_s_place_is_told_and_not_waited_for(name, tmp_path):
    run = made_up_run(tmp_path / "run", 3, complete=True)
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    (found,) = watched(tmp_path / "run")
    assert len(found.trouble) == 1
    assert name in found.trouble[0]


def test_where_configs_differ():
    configs = [
        {"seed": 0, "a": {"type": "A", "x": 1, "l": [1]}},
        {"seed": 0, "a": {"type": "B", "y": None, "l": [1]}},
    ]
    assert facts.differences(configs) == {
        "a.type": ['"A"', '"B"'],
        "a.x": ["1", "–"],
        "a.y": ["–", "null"],
    }
    assert facts.differences(configs[:1] * 2) == {}


@pytest.mark.parametrize(
    "seconds", [(0, "0:00"), (61.4, "1:01"), (7322, "2:02:02"), (None, "–"), (1e12, "–")]
)
def test_durations(seconds):
    assert facts.duration(seconds[0]) == seconds[1]


@pytest.mark.parametrize("num_rows", [1, 256, 257, 3000])
def test_charts_have_few_points_that_stay_where_they_are(num_rows, tmp_path):
    made_up_run(tmp_path / "run", num_rows)
    (run,) = watched(tmp_path / "run")
    look = run_styles([run.label])
    data = run_charts([run], look)["outer_loss"]["steps"].data
    assert min(num_rows, MOST_POINTS / 2) <= len(data) <= MOST_POINTS
    longer = run._replace(rows=run.rows + made_up_rows(1, first=num_rows))
    if num_rows not in (1, 256):
        again = run_charts([longer], look)["outer_loss"]["steps"].data
        assert [p["steps"] for p in again[: len(data) - 1]] == [p["steps"] for p in data[:-1]]
    assert all(row["low"] <= row["estimate"] <= row["high"] for row in data)


def test_what_charts_show(tmp_path):
    made_up_run(tmp_path / "run", complete=True)
    (run,) = watched(tmp_path / "run")
    charts = run_charts([run], run_styles([run.label]))
    assert [name for name, chart in charts.items() if chart] == [*PANELS, "held_out"]
    last = {name: chart["steps"].data[-1] for name, chart in charts.items()}
    assert last["guards"]["part"] == "steps not taken"
    parts = {row["part"]: row["estimate"] for row in charts["guards"]["steps"].data}
    assert parts == {"non finite": 1.0, "steps not taken": 0.0}
    assert last["pace"]["estimate"] == 2.0
    assert last["weights"]["estimate"] == 0.5
    assert {row["part"] for row in charts["variances"]["steps"].data} == {
        "reparameterization",
        "evolution strategies",
    }
    # The median of four equal curves, after 30 inner steps.
    assert charts["held_out"]["steps"].data[29]["estimate"] == pytest.approx(math.exp(-2.9), 1e-4)
    scale = charts["outer_loss"]["seconds"].spec["layer"][1]["encoding"]["y"]["scale"]
    assert scale["type"] == "log"


@pytest.mark.parametrize("value", ["text", [1], {"a": 1}, None, True, -1.0, 1e200, 0])
def test_rows_may_hold_anything(value, tmp_path):
    run = made_up_run(tmp_path / "run", 0)
    rows = [row | {"grad_norm": value, "weight_x": value} for row in made_up_rows(3)]
    add_rows(tmp_path / "run", rows)
    run.summary.write_text(json.dumps({"heldout": value}))
    (found,) = watched(tmp_path / "run")
    run_charts([found], run_styles([found.label]))
    assert fact(found, "held_out") is None
