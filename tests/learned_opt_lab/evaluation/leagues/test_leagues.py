"""Both leagues of a tiny suite: prefixes, twins, nan, one reference, and costs."""

import json

import jax
import numpy as np
import pytest

from learned_opt_lab.cli.commands.evaluate import print_report
from learned_opt_lab.evaluation.leagues.run import budgets_of
from learned_opt_lab.evaluation.page.boards import boards_of
from learned_opt_lab.evaluation.suite._evaluate import evaluate
from learned_opt_lab.evaluation.suite.entries import Entry, parse_entries
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.evaluation.tuning import runs_of
from tasks.suite_tasks import Suite
from tests.support.lab.pages import BROWSER, browse
from tests.support.lab.tiny import NAN, SGD

BUDGETS = (1, 3, 8)


def who_plays():
    learned = [
        Entry(name, name, optimizer=SGD, theta=np.float32(0.05)) for name in ("one", "two/same")
    ]
    nan = Entry("nan", "nan", optimizer=NAN, theta=np.float32(1))
    return [nan, *parse_entries(["adam", "twin=adam", "schedule_free", "sgd"]), *learned]


@pytest.fixture(scope="module")
def small(suite):
    return Suite(**{**vars(suite), "tasks": suite.tasks[:1]})


@pytest.fixture(scope="module")
def settings(settings):
    return settings._replace(
        leagues=("untuned", "equal_budgets"), budgets=BUDGETS, num_seeds=4, num_tuning_seeds=2
    )


@pytest.fixture(scope="module")
def plans():
    return []


@pytest.fixture(scope="module")
def out(small, settings, plans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "leagues"
    evaluate(folder, small, who_plays(), settings, planned=plans.append)
    return folder


@pytest.fixture(scope="module")
def report(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def leagues(report):
    return report["leagues"]


def boards(leagues):
    return [leagues["untuned"], *leagues["equal_budgets"].values()]


def rows_of(board, label):
    return [row for row in board["rows"] if row["optimizer"] == label]


def test_each_league_has_its_boards(leagues, report):
    assert list(leagues["equal_budgets"]) == ["1", "3", "8"]
    assert [board["budget"] for board in boards(leagues)] == [1, 1, 3, 8]
    assert report["league"] == "equal_budgets"
    assert report["rows"] == leagues["equal_budgets"]["8"]["rows"]
    for board in boards(leagues):
        for optimizer in board["optimizers"]:
            low, high = (optimizer["normalized"][end] for end in ("low", "high"))
            assert low <= optimizer["normalized"]["estimate"] <= high


def test_more_budget_is_never_a_worse_tuned_score(leagues):
    for label in ("adam", "schedule_free", "sgd", "one", "nan"):
        found = [rows_of(board, label)[0]["tuning"] for board in boards(leagues)[1:]]
        losses = [tuning["validation_loss"] for tuning in found]
        assert losses == sorted(losses, reverse=True)
        assert [tuning["num_configurations"] for tuning in found] == list(BUDGETS)
        assert all(tuning["index"] < tuning["num_configurations"] for tuning in found)
    assert rows_of(boards(leagues)[3], "one")[0]["tuning"]["index"] > 0


def test_the_choice_is_the_lowest_of_the_prefix(out, leagues):
    record = json.loads((out / "cells" / "small" / "sgd.json").read_text())["record"]
    scores = record["search"]["scores"]
    assert len(scores) == max(BUDGETS)
    for board in boards(leagues)[1:]:
        (row,) = rows_of(board, "sgd")
        assert row["tuning"]["index"] == int(np.argmin(scores[: board["budget"]]))
        assert row["tuning"]["validation_loss"] == min(scores[: board["budget"]])


def test_untuned_is_the_published_default(leagues):
    (row,) = rows_of(leagues["untuned"], "adam")
    assert row["hyperparameters"] == pytest.approx(
        {"learning_rate": 1e-3, "one_minus_b1": 0.1, "one_minus_b2": 1e-3, "warmup": 0.0}
        | {"schedule": "constant"}
    )
    (learned,) = rows_of(leagues["untuned"], "one")
    assert learned["hyperparameters"]["learning_rate"] == 1.0
    assert learned["hyperparameters"]["weight_decay"] == 0.0
    assert not any(optimizer["knows_horizon"] for optimizer in leagues["untuned"]["optimizers"])
    for optimizer in leagues["untuned"]["optimizers"]:
        assert optimizer["default_source"]
        assert optimizer["cost"] == {"runs": 0, "steps": 0, "seconds": 0}
    assert leagues["untuned"] == leagues["equal_budgets"]["1"]


def test_twins_tie_on_every_board(leagues):
    for board in boards(leagues):
        for pair in (("adam", "twin"), ("one", "two/same")):
            first, second = (
                {k: v for k, v in o.items() if k not in ("label", "spec", "description")}
                for o in board["optimizers"]
                if o["label"] in pair
            )
            assert first == second
            for profile in board["time_to_target"].values():
                for unit in profile["units"].values():
                    assert unit["scores"][pair[0]] == unit["scores"][pair[1]]
                    assert unit["shares"][pair[0]] == unit["shares"][pair[1]]


def test_nan_is_last_on_every_board_and_counted(leagues):
    for board in boards(leagues):
        last = board["optimizers"][-1]
        assert last["label"] == "nan"
        assert last["rank"] == len(board["optimizers"])
        assert last["num_diverged_runs"] == 4
        assert last["divergence_rate"] == 1.0
        for profile in board["time_to_target"].values():
            for unit in profile["units"].values():
                assert unit["scores"]["nan"]["estimate"] == 0.0
                assert unit["times"]["nan"] == [None]


def test_one_reference_for_all_boards_is_the_best_tuned_hand_designed(out, leagues, report):
    reference = leagues["reference"]
    assert (reference["budget"], reference["is_tuned"]) == (8, True)
    losses = {}
    for label in ("adam", "schedule_free", "sgd"):
        (row,) = rows_of(leagues["equal_budgets"]["8"], label)
        losses[label] = row["validation_loss"]["estimate"]
    assert reference["label"] == min(losses, key=losses.get) == report["reference"]
    (own,) = rows_of(leagues["equal_budgets"]["8"], reference["label"])
    assert np.mean(own["normalized"]["runs"]) == pytest.approx(0, abs=1e-6)
    assert own["steps_to_best"]["steps_ratio"] == 1.0
    assert len({row["best_loss"] for board in boards(leagues) for row in board["rows"]}) == 1
    (untuned,) = rows_of(leagues["untuned"], reference["label"])
    assert np.mean(untuned["normalized"]["runs"]) > 0


def test_the_second_time_axis_holds_the_cost_of_tuning(leagues, small):
    board = leagues["equal_budgets"]["8"]
    for row in board["rows"]:
        cost = row["cost"]
        assert cost["runs"] == 8 * 2
        assert cost["steps"] == 8 * 2 * small.tasks[0].num_steps
        assert cost["seconds"] == pytest.approx(cost["steps"] * row["seconds_per_step"])
        reached = row["steps_to_best"]
        if reached["seconds"] is not None:
            assert reached["seconds_with_tuning"] == pytest.approx(
                reached["seconds"] + cost["seconds"]
            )


def test_the_plan_counts_twins_once(out, plans):
    (plan,) = plans
    cost = dict(zip(plan.labels, plan.seconds, strict=True))
    assert {label for label, seconds in cost.items() if seconds == 0} == {"twin", "two/same"}
    assert plan.tasks == ("small",)
    names = [name.split()[0] for name in json.loads((out / "costs.json").read_text())]
    assert sorted(names) == ["8", "plain", *["step"] * 5]


def test_cells_are_read_again_and_a_league_is_another_evaluation(out, small, settings, tmp_path):
    times = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*.npz")}
    assert len(times) == 7
    again = evaluate(out, small, who_plays(), settings)
    assert again == json.loads((out / "report.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*.npz")} == times
    for change in ({"leagues": ()}, {"budgets": (1, 4)}, {"leagues": ("untuned",)}):
        with pytest.raises(ValueError, match="choose another folder"):
            evaluate(out, small, who_plays(), settings._replace(**change))


def test_nobody_tunes_alone_searches_nothing(small, settings, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("searched")

    monkeypatch.setattr("learned_opt_lab.evaluation.leagues.run.tune", refuse)
    found = evaluate(
        tmp_path / "a", small, parse_entries(["sgd"]), settings._replace(leagues=("untuned",))
    )
    assert found["leagues"]["reference"] == {"label": "sgd", "budget": 1, "is_tuned": False}
    assert found["leagues"]["equal_budgets"] == {}
    assert found["league"] == "untuned"


def test_every_board_is_printed(report, capsys):
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if not line.startswith((" ", "rank", "score"))]
    assert heads == ["nobody tunes"] + [
        f"equal budgets: {words} each"
        for words in ("1 configuration", "3 configurations", "8 configurations")
    ]
    assert sum(line.split()[1:2] == ["nan"] for line in lines) == 4
    reference = f"{report['reference']} at the best of 8 configurations"
    assert f"score: 0 is {reference}, 1 is no progress; lower is better" in lines


def test_tuning_has_runs_of_its_own(small):
    tune, evaluated = (runs_of(small.tasks[0], role, 2, 0).seed for role in ("tune", "evaluate"))
    assert not np.isin(jax.random.key_data(tune), jax.random.key_data(evaluated)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": (0, 5)}, "a budget must be at least 1, got 0"),
        ({"budgets": ()}, "at least one budget"),
        ({"leagues": ("untund",)}, "unknown league 'untund'; did you mean untuned"),
    ],
)
def test_bad_leagues(change, message):
    with pytest.raises(ValueError, match=message):
        budgets_of(Settings(leagues=("equal_budgets",))._replace(**change))


def test_who_has_no_default_is_in_no_league(small, settings, tmp_path):
    with pytest.raises(ValueError, match=r"marthe has no published default.*adam"):
        evaluate(tmp_path / "x", small, parse_entries(["marthe"]), settings)
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium found")
def test_a_browser_finds_no_fault_with_the_page(out, report, tmp_path):
    found, console = browse((out / "report.html").read_text(encoding="utf-8"), tmp_path)
    assert console == []
    for width, page_found in found.items():
        assert page_found["errors"] == page_found["violations"] == page_found["cut"] == [], width
        assert page_found["overflow"] <= 0
        # Three charts a board, one of all tasks, one of the task.
        assert page_found["drawn"] == page_found["charts"] == 3 * len(boards_of(report)) + 2
    labels = {optimizer["label"] for optimizer in report["optimizers"]}
    assert all(label in found[390]["csv"]["untuned_ranking"] for label in labels)
