"""The page: every number is the JSON's, nothing is fetched, and a real browser finds no fault."""

import csv
import io
import json
import re

import pytest

from learned_opt_lab.drawing import charts as drawing
from learned_opt_lab.evaluation.page import page, tables
from learned_opt_lab.evaluation.page.boards import boards_of
from learned_opt_lab.evaluation.page.sentences import sentence_of
from learned_opt_lab.evaluation.suite.rankings import verdict_of
from tests.support.lab.pages import BROWSER, WIDTHS, Numbers, browse, make_report


@pytest.fixture(scope="module")
def made():
    report, _, text = make_report()
    return report, text


def lookup(report, path):
    for key in path.split("."):
        report = report[int(key)] if isinstance(report, list) else report[key]
    return report


def test_every_number_stands_in_the_json(made):
    report, text = made
    embedded = re.search(r'id="report-data">(.*?)</script>', text, re.DOTALL).group(1)
    assert json.loads(embedded) == report
    numbers = Numbers(text).numbers
    assert len(numbers) > 200
    for path, shown in numbers:
        value = lookup(report, path)
        if value is None:
            assert shown == "–"
        else:
            assert float(shown) == pytest.approx(value, rel=6e-3)


def test_as_many_rows_as_the_report(made):
    report, text = made
    assert Numbers(text).rows == {"ranking": 3, "rows": len(report["rows"]), "pairs": 3}


def test_nothing_is_fetched(made):
    addresses = Numbers(made[1]).addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    ours = made[1].replace(drawing.script(), "")
    assert "@import" not in ours
    assert "url(" not in ours


def test_a_band_has_the_legend_of_its_lines():
    """Vega-Lite draws one legend for both: without it, in the opacity of the band, hardly seen."""
    charts = make_report()[1]
    band, line = next(c.spec["layer"][:2] for n, c in charts.items() if n.endswith("_seconds"))
    assert [band["mark"]["type"], line["mark"]["type"]] == ["area", "line"]
    legends = [layer["encoding"]["color"]["legend"] for layer in (band, line)]
    assert legends[0] == legends[1]
    assert legends[0]["symbolOpacity"] == 1


def test_charts_are_drawn_in_css_colours_with_a_colour_for_dark(made):
    text = made[1].replace(drawing.script(), "")
    used = set(re.findall(r"var\((--c-[0-9a-f]{6})", text))
    light, dark = text.split("@media (prefers-color-scheme: dark)")[:2]
    assert len(used) > 3
    assert all(f"{name}:" in light and f"{name}:" in dark.split("</style>")[0] for name in used)
    assert text.count("<figure") == 3 + 1 + 3


def test_the_curves_data_stand_in_the_page_once(made):
    embedded = re.search(r'id="charts-data">(.*?)</script>', made[1], re.DOTALL).group(1)
    charts = json.loads(embedded)
    # Two charts of all tasks, and two for each of one's data, over steps and over seconds.
    assert [chart["data"] for chart in charts["specs"]] == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7]
    assert len(charts["data"]) == 3 + 2 + 3


@pytest.fixture(scope="module")
def in_leagues(made):
    """The report as one of leagues, in which the reference was tuned with five runs."""
    names = ("optimizers", "rows", "probability_of_improvement", "performance_profile")
    board = {name: made[0][name] for name in (*names, "timing_warnings", "diverged")}
    reference = {"label": "adam", "budget": 5, "is_tuned": True}
    leagues = {"untuned": board, "equal_budgets": {"5": board}, "reference": reference}
    return made[0] | {"leagues": leagues | {"definitions": {"cost": "of a search"}}}


def test_the_page_says_what_was_tuned(made, in_leagues):
    assert "a grid of 11 learning rates" in made[1]
    assert "learned optimizers are not tuned" in made[1]
    text = page.render(in_leagues, {})
    assert "a learned one too, tries as many configurations" in text
    assert "learned optimizers are not tuned" not in text


def words(sentence):
    """A sentence with the last part of a path for each number."""
    return "".join(
        piece.text.rpartition(".")[2] if piece.kind == "number" else piece.text
        for piece in sentence
    )


def test_each_board_has_its_sentence_tables_and_paths(in_leagues):
    said = [words(sentence_of(board, in_leagues)) for board in boards_of(in_leagues)]
    how = "(won won and lost lost of 3 tasks, seconds_per_step_ratio times the seconds a step"
    assert (
        said[0]
        == said[1]
        == (
            "learned ranks first of 3 optimizers and beats adam at the best of 5 configurations "
            f"{how}); </script> ranks rank and loses to it {how}, num_diverged_runs runs diverged)."
        )
    )
    text = page.render(in_leagues, {})
    assert "Nobody tunes: <b>learned</b> ranks first" in text
    assert "Equal budgets of 5 configurations for each: <b>learned</b> ranks first" in text
    parsed = Numbers(text)
    assert {name: parsed.rows[name] for name in ("untuned_ranking", "equal_5_ranking")} == {
        "untuned_ranking": 3,
        "equal_5_ranking": 3,
    }
    for path, shown in parsed.numbers:
        value = lookup(in_leagues, path)
        assert shown == "–" if value is None else float(shown) == pytest.approx(value, rel=6e-3)


def test_one_run_says_why_nobody_wins_and_a_budget_of_one_is_no_board_of_its_own(in_leagues):
    leagues = in_leagues["leagues"]
    equal = {"1": leagues["untuned"], **leagues["equal_budgets"]}
    both = in_leagues | {"leagues": leagues | {"equal_budgets": equal}}
    assert [board.name for board in boards_of(both)] == ["untuned_", "equal_5_"]
    alone = both | {"leagues": leagues | {"untuned": None, "equal_budgets": equal}}
    assert [board.name for board in boards_of(alone)] == ["equal_1_", "equal_5_"]
    assert "does not tell chance from skill" not in page.render(in_leagues, {})
    one = in_leagues | {"settings": in_leagues["settings"] | {"num_seeds": 1}}
    text = page.render(one, {})
    assert "One run of a task does not tell chance from skill" in text
    assert re.search(r"3 tasks, <[^>]*>1<[^>]*> run of each", text)


def test_verdict_says_who_wins(made):
    assert "<b>learned</b> ranks first of 3 optimizers and beats tuned adam (" in made[1]
    assert re.search(r"&lt;/script&gt;</b> ranks .* and loses to it \(", made[1])


@pytest.mark.parametrize(
    ("score", "better", "expected"),
    [
        ((-0.2, -0.1), (0.6, 0.9), "beats"),
        ((-0.2, -0.1), (0.4, 0.9), "is level with"),
        ((-0.2, 0.1), (0.6, 0.9), "is level with"),
        ((0.1, 0.2), (0.1, 0.4), "loses to"),
        ((0.1, 0.2), (0.1, 0.6), "is level with"),
        ((0.0, 0.0), (0.5, 0.5), "is level with"),
        ((float("nan"), float("nan")), (0.6, 0.9), "cannot be compared with"),
        ((-0.2, -0.1), (float("nan"), float("nan")), "cannot be compared with"),
    ],
)
def test_only_both_intervals_together_are_a_verdict(score, better, expected):
    ends = [dict(zip(("low", "high"), interval, strict=True)) for interval in (score, better)]
    summary = {"normalized": ends[0], "improvement_over_reference": ends[1], "num_lost_tasks": 0}
    assert verdict_of(summary) == expected


def test_the_reference_is_not_compared_with_itself(in_leagues):
    leagues = in_leagues["leagues"]
    untuned = leagues | {"reference": {"label": "learned", "budget": 1, "is_tuned": False}}
    board, tuned = boards_of(in_leagues | {"reference": "learned", "leagues": untuned})
    report = in_leagues | {"reference": "learned", "leagues": untuned}
    assert words(sentence_of(board, report)).startswith("learned ranks first of 3 optimizers; ")
    assert "learned at its default (" in words(sentence_of(tuned, report))


@pytest.mark.parametrize(("is_tuned", "name"), [(True, "tuned adam ("), (False, "beats adam (")])
def test_a_reference_of_one_configuration_is_not_called_tuned(made, is_tuned, name):
    report = made[0] | {"reference_is_tuned": is_tuned}
    assert name in words(sentence_of(boards_of(report)[0], report))


def test_runs_that_diverged_are_said(made):
    found = [each | {"num_diverged_runs": 2 * i} for i, each in enumerate(made[0]["optimizers"])]
    report = made[0] | {"optimizers": found}
    said = words(sentence_of(boards_of(report)[0], report))
    assert said.count("seconds a step, num_diverged_runs runs diverged)") == 1


def test_of_a_choice_what_is_no_default_is_shown(made):
    board = boards_of(made[0])[0]
    row = {"optimizer": "learned", "hyperparameters": {"learning_rate": 0.1, "schedule": "linear"}}
    told = lambda default: tables.chosen(
        row,
        board._replace(content={"optimizers": [{"label": "learned", "default": default}]}),
    )
    assert told({"learning_rate": 0.1 + 1e-9, "schedule": "linear"}) == "default"
    assert told({"learning_rate": 0.1, "schedule": "constant"}) == "schedule linear"
    assert tables.chosen(row, board) == "learning_rate 0.1, schedule linear"
    assert tables.chosen(row | {"hyperparameters": None}, board) == "not tuned"


def test_those_who_share_the_first_rank_are_both_named(made):
    optimizers = [o | {"rank": 1} for o in made[0]["optimizers"]]
    report = made[0] | {"optimizers": optimizers}
    (board,) = boards_of(report)
    said = "".join(piece.text for piece in sentence_of(board, report) if piece.kind != "number")
    assert said.startswith("learned, adam and </script> share the first rank of 3 optimizers; ")


def test_seconds_of_equal_architectures_that_differ_carry_a_warning(made):
    report, text = made
    # The two learned ones have the same weights, and were made 3 times apart.
    assert [warning["task"] for warning in report["timing_warnings"]] == ["task0", "task1", "task2"]
    assert "Seconds are not to be trusted on 3 of 3 tasks" in text


@pytest.fixture(
    scope="module",
    params=[
        ("light", ("learned", "</script>")),
        ("dark", ("=1+1", *(f"optimizer_number_{i}" for i in range(6)))),
    ],
    ids=["light", "dark, 8 optimizers"],
)
def browsed(request, tmp_path_factory):
    """What a browser finds of a page at each width, its console, and the report."""
    if BROWSER is None:
        pytest.skip("no Chromium found")
    colors, labels = request.param
    report, charts, text = make_report(labels=labels)
    folder = tmp_path_factory.mktemp("browser")
    return *browse(text, folder, dark=colors == "dark"), report, charts


def test_a_browser_reads_sorts_hovers_and_finds_nothing_cut(browsed):
    found, console, report, charts = browsed
    assert console == []
    assert set(found) == set(WIDTHS)
    for width, page_found in found.items():
        assert page_found["errors"] == [], width
        assert page_found["violations"] == [], width
        assert page_found["fetched"] == [], width
        assert page_found["overflow"] <= 0, width
        assert page_found["cut"] == [], width
        assert page_found["drawn"] == page_found["charts"] == len(charts) - 1 - 3
        assert page_found["titles"] == page_found["paths"] > 200
        shown = [float(value) for value in page_found["sorted"]]
        assert shown == sorted(shown)
        assert len(shown) == len(report["rows"])
        assert re.match(r"optimizer.+inner step[\d.,]+test loss[\d.]+", page_found["tooltip"]), (
            width
        )
        assert page_found["overSeconds"]
        table = list(csv.DictReader(io.StringIO(page_found["csv"]["rows"])))
        assert [float(row["test_loss.estimate"]) for row in table] == [
            row["test_loss"]["estimate"] for row in report["rows"]
        ]
        # A program for tables would take it for a formula.
        names = {row["label"] for row in csv.DictReader(io.StringIO(page_found["csv"]["ranking"]))}
        assert names == {
            "'=1+1" if o["label"] == "=1+1" else o["label"] for o in report["optimizers"]
        }
    assert found[390]["cards"] >= 2
    assert found[1400]["cards"] <= (len(report["optimizers"]) > 3)
