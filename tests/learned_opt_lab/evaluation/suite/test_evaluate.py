"""A whole evaluation on a tiny suite:
ties, divergence, resuming, refusing, and numbers traced to the raw curves.
"""

import json
import shutil

import numpy as np
import pytest
import scipy.stats

from learned_opt_lab.cli import verdicts
from learned_opt_lab.cli.commands.evaluate import print_end, print_ranking
from learned_opt_lab.evaluation.regularized import ADAM8_RANGES
from learned_opt_lab.evaluation.suite import run as suite_run
from learned_opt_lab.evaluation.suite._evaluate import evaluate
from learned_opt_lab.evaluation.suite.entries import parse_entries
from tasks.suite_tasks import Suite
from tests.support.lab.tiny import entries


@pytest.fixture(scope="module")
def out(suite, settings, tmp_path_factory):
    """The folder of an evaluation that was interrupted after five cells and then went on."""
    folder, seen = tmp_path_factory.mktemp("out") / "evaluation", []

    def stop(done, total, what):
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(folder, suite, entries(), settings, stop)
    assert seen == [0, 1, 2, 3, 4, 5]
    first = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*.npz")}
    assert len(first) == 5
    interim = json.loads((folder / "report.json").read_text())
    assert interim["progress"] == {"tasks_done": 1, "tasks": 3, "to_come": ["large", "absent"]}
    assert {row["task"] for row in interim["rows"]} == {"small"}
    assert (folder / "report.html").exists()
    evaluate(folder, suite, entries(), settings)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    return folder


@pytest.fixture(scope="module")
def report(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def curves(out):
    with np.load(out / "curves.npz") as file:
        return dict(file)


def test_rows_are_a_list_with_one_for_each_task_and_optimizer(report):
    assert [(row["task"], row["optimizer"]) for row in report["rows"]] == [
        (task, label) for task in ("small", "large") for label in ("adam", "one", "two/same", "nan")
    ]
    assert report["skipped"] == [{"task": "absent", "reason": "the set is not here"}]
    assert report["suite"]["version"] == 3


def test_one_optimizer_under_two_names_is_level_with_itself(report):
    one, same = (
        next(o for o in report["optimizers"] if o["label"] == name) for name in ("one", "two/same")
    )
    assert one["normalized"] == pytest.approx(same["normalized"])
    (pair,) = (
        p for p in report["probability_of_improvement"] if (p["x"], p["y"]) == ("one", "two/same")
    )
    assert pair["estimate"] == pytest.approx(0.5)
    assert pair["low"] < 0.5 < pair["high"]


def test_an_optimizer_that_returns_nan_is_last_and_listed(report):
    last = report["optimizers"][-1]
    assert (last["label"], last["divergence_rate"], last["normalized"]["estimate"]) == (
        "nan",
        1.0,
        2.0,
    )
    assert last["rank"] == 4
    listed = [
        (d["task"], d["run"], d["first_non_finite_step"])
        for d in report["diverged"]
        if d["optimizer"] == "nan"
    ]
    assert listed == [(task, run, 2) for task in ("small", "large") for run in range(6)]
    row = next(row for row in report["rows"] if row["optimizer"] == "nan")
    assert row["test_loss"]["estimate"] == 1000.0
    assert row["steps_to_target"]["steps"] is None


def test_numbers_come_from_the_curves(report, curves):
    """Final losses, normalization, targets and aggregates, again, from the raw curves."""
    scores, at_most = [], 0
    for row in report["rows"]:
        if row["optimizer"] == "one":
            final = {
                name: curves[f"{row['task']}/{name}/test/loss"][:, -1] for name in ("adam", "one")
            }
            start = curves[f"{row['task']}/adam/test/loss"][:, 0].mean()
            expected = (final["one"] - final["adam"].mean()) / (start - final["adam"].mean())
            np.testing.assert_allclose(
                row["normalized"]["runs"], np.minimum(expected, 2), rtol=1e-5
            )
            assert row["test_loss"]["estimate"] == pytest.approx(final["one"].mean(), rel=1e-6)
            scores.append(expected)
            validation = curves[f"{row['task']}/adam/outer_valid/loss"].mean(axis=0)
            assert row["target_loss"] == pytest.approx(validation[-1], rel=1e-6)
            assert row["best_loss"] == pytest.approx(validation.min(), rel=1e-6)
            own = curves[f"{row['task']}/one/outer_valid/loss"].mean(axis=0) <= validation[-1]
            at_most += bool(own[-1])
            reached = curves[f"{row['task']}/steps"][own.argmax()] if own.any() else None
            assert row["steps_to_target"]["steps"] == reached
    one = next(o for o in report["optimizers"] if o["label"] == "one")
    assert one["validation_at_most_reference"] == {"tasks": at_most, "num_tasks": len(scores)}
    assert one["normalized"]["estimate"] == pytest.approx(
        scipy.stats.trim_mean(np.minimum(scores, 2), 0.25, axis=None)
    )


def test_the_reference_reaches_its_own_targets_at_ratio_one(report):
    for row in report["rows"]:
        if row["optimizer"] == "adam":
            assert row["steps_to_best"]["steps_ratio"] == 1.0
            assert row["steps_to_target"]["seconds_ratio"] == 1.0
            assert row["tuning"]["num_configurations"] == 11
            assert (
                row["hyperparameters"]["learning_rate"]
                in row["tuning"]["configurations"]["learning_rate"]
            )
            assert row["seconds_per_step"] > row["overhead_seconds_per_step"] >= 0
            assert row["compile_seconds"] > 0


def test_files(out):
    names = {path.name for path in out.iterdir()}
    assert names == {
        "evaluation.json",
        "cells",
        "costs.json",
        "made.json",
        "report.json",
        "report.html",
        "curves.npz",
        "figures",
    }
    figures = {path.name for path in (out / "figures").iterdir()}
    by_unit = {
        f"{unit}_of_all.png" if task is None else f"{task}_{unit}.png"
        for task in (None, "small", "large")
        for unit in ("steps", "seconds")
    }
    assert figures == {"overview.png", "profile.png"} | by_unit


def test_the_curve_of_all_tasks_ends_at_the_score(out):
    report = json.loads((out / "report.json").read_text())
    ends = {label: s[-1] for label, s in report["descent"]["steps"]["scores"].items()}
    scores = {o["label"]: o["normalized"]["estimate"] for o in report["optimizers"]}
    assert ends == pytest.approx(scores, abs=1e-12)


@pytest.mark.parametrize(
    "change",
    [{"settings": {"seed": 1}}, {"entries": slice(3)}, {"suite": {"version": 4}}, {"folder": True}],
)
def test_another_evaluation_does_not_go_into_the_folder(change, out, suite, settings, tmp_path):
    before = (out / "report.json").read_text()
    folder = out
    if change.get("folder"):
        folder = tmp_path
        (tmp_path / "mine.txt").write_text("mine")
    other = Suite(**{**vars(suite), **change.get("suite", {})})
    with pytest.raises(ValueError, match="choose another folder"):
        evaluate(
            folder,
            other,
            entries()[change.get("entries", slice(None))],
            settings._replace(**change.get("settings", {})),
        )
    assert (out / "report.json").read_text() == before


def test_reference_is_added_or_refused(suite, settings, tmp_path):
    with pytest.raises(ValueError, match="unknown reference 'what'"):
        evaluate(tmp_path / "x", suite, entries(), settings._replace(reference="what"))
    assert not (tmp_path / "x").exists()


def test_a_damaged_cell_is_told_and_measured_again(
    out, suite, settings, curves, report, tmp_path, capsys
):
    folder = tmp_path / "evaluation"
    shutil.copytree(out, folder)
    path = folder / "cells" / "small" / "two%2Fsame.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = evaluate(folder, suite, entries(), settings)
    assert f"warning: {path} is damaged" in capsys.readouterr().err
    with np.load(folder / "curves.npz") as file:
        for name in curves:
            if not name.endswith("/seconds"):
                np.testing.assert_array_equal(file[name], curves[name])
    assert [o["normalized"] for o in again["optimizers"]] == [
        o["normalized"] for o in report["optimizers"]
    ]


def test_the_report_says_what_came_from_a_cache(
    out, suite, settings, report, tmp_path, monkeypatch
):
    """The folder's own tuning is from no cache, interrupted or not; another folder's is."""
    adam = next(o for o in report["optimizers"] if o["label"] == "adam")
    assert "tuning_source" not in adam
    assert [row["tuning"]["cached"] for row in report["rows"] if row["tuning"]] == [False, False]
    other = evaluate(tmp_path / "other", suite, parse_entries(["adam"]), settings)
    made = {row["tuning"]["made"][:10] for row in report["rows"] if row["tuning"]}
    (source,) = [o["tuning_source"] for o in other["optimizers"]]
    assert source.startswith("tuning read from the cache on 2 of 2 tasks, made on")
    assert all(day in source for day in made)
    assert source in (tmp_path / "other" / "report.html").read_text()


def test_a_budget_is_no_part_of_an_evaluation_and_what_is_there_costs_nothing(
    out, suite, settings, report
):
    plans = []
    again = evaluate(out, suite, entries(), settings, planned=plans.append, max_minutes=1e-9)
    assert again["progress"] == {"tasks_done": 2, "tasks": 2, "to_come": []}
    assert again["rows"] == report["rows"]
    (plan,) = plans
    assert set(plan.seconds) == {0.0}
    assert plan.skipped == ("absent",)


def test_before_the_first_task_is_complete_there_is_no_report(
    suite, settings, tmp_path, monkeypatch, capsys
):
    made = []

    def run_cell(at, entry, settings, timing):
        made.append(entry.label)
        return suite_run.Cell({"test": {"loss": np.ones((2, 3))}}, timing()._asdict())

    monkeypatch.setattr(suite_run, "run_cell", run_cell)
    out, plans = tmp_path / "out", []
    settings = settings._replace(cache_dir=tmp_path / "cache")
    found = evaluate(out, suite, entries(), settings, planned=plans.append, max_minutes=1e-9)
    assert found["progress"]["tasks_done"] == 0
    assert made == ["adam"]
    assert (found["suite"]["name"], found["tasks"], found["skipped"]) == (suite.name, [], [])
    assert verdicts.of_report(found, out, ["adam"]).line.startswith("no task is complete")
    names = {"evaluation.json", "costs.json", "made.json", "cells"}
    assert {path.name for path in out.iterdir()} == names
    assert not json.loads((out / "made.json").read_text())["finished"]
    record = json.loads((out / "cells" / "small" / "adam.json").read_text())["record"]
    costs = json.loads((out / "costs.json").read_text())
    seconds = [record["seconds_per_step"], record["compile_seconds"]]
    assert {"seconds": seconds} in costs.values()
    assert all(seconds > 0 for seconds in plans[0].seconds)
    # Adam alone searches; its cell compiles twice as much.
    assert plans[0].seconds[0] > plans[0].seconds[1]
    print_end(found, out)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "0 of 3 tasks are complete; the same command goes on"


def test_one_run_has_no_interval(suite, settings, tmp_path):
    small = Suite(**{**vars(suite), "tasks": suite.tasks[:1]})
    one = evaluate(
        tmp_path / "one", small, entries()[:2], settings._replace(num_seeds=1, num_tuning_seeds=1)
    )
    for optimizer in one["optimizers"]:
        assert optimizer["normalized"]["estimate"] is not None
        assert (optimizer["normalized"]["low"], optimizer["normalized"]["high"]) == (None, None)
    print_ranking(one)


def test_a_shipped_optimizer_beside_adam_and_its_eight_hyperparameters(suite, settings, tmp_path):
    """`learned-opt evaluate general adam adam8`."""
    one = Suite("one", 1, "one regression", suite.tasks[:1])
    evaluate(tmp_path / "e", one, parse_entries(("general", "adam", "adam8")), settings)
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    rows = {row["optimizer"]: row for row in report["rows"]}
    assert set(rows) == {"general", "adam", "adam8"}
    assert set(rows["adam8"]["hyperparameters"]) == set(ADAM8_RANGES)
    assert all(np.isfinite(row["test_loss"]["estimate"]) for row in rows.values())
