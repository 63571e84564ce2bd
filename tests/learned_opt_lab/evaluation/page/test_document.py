"""A page of the documentation holds the report's numbers, and follows from what is kept alone."""

import json
import re

import pytest

from benchmarks import league_page
from learned_opt_lab.evaluation.page import document
from tests.support.lab.pages import make_report

MADE = {
    "finished": True,
    "minutes": 12.3456,
    "ended": "2026-11-28T10:51:59+00:00",
    "machine": "a processor, 2 cores",
    "commit": "0123456789ab",
    "settings": {"optimizers": ["learned.npz", "adam"], "reference": "adam"},
}


@pytest.fixture(scope="module")
def report():
    return make_report()[0] | {"progress": {"tasks_done": 3, "tasks": 3, "to_come": []}}


@pytest.fixture(scope="module")
def leagues(report):
    """The report as one of both leagues, in which the reference was tuned with five runs."""
    names = ("optimizers", "rows", "timing_warnings", "probability_of_improvement")
    units = ("steps", "seconds", "seconds_with_tuning")
    speeds = [
        {u: {"estimate": i + j / 10, "low": 0.0, "high": 3.0} for j, u in enumerate(units)}
        for i in range(3)
    ]
    board = {name: report[name] for name in names}
    board["optimizers"] = [
        each | {"speed": speed} for each, speed in zip(report["optimizers"], speeds, strict=True)
    ]
    reference = {"label": "adam", "budget": 5, "is_tuned": True}
    equal = {"1": board, "5": board}
    settings = report["settings"] | {"leagues": ["untuned", "equal_budgets"], "budgets": [1, 5]}
    return report | {
        "settings": settings,
        "leagues": {"untuned": board, "equal_budgets": equal, "reference": reference},
    }


def sections(page):
    parts = re.split(r"^## (.*)$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def cells(text):
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_what_is_kept_survives_json_and_is_enough(report, leagues):
    for each in (report, leagues):
        content = document.kept(each, MADE)
        again = json.loads(json.dumps(content, allow_nan=False))
        assert document.markdown(again, "real") == document.markdown(content, "real")
        assert len(json.dumps(content)) < len(json.dumps(each)) / 3


def test_every_board_has_a_sentence_and_the_ranks_of_the_report(leagues):
    page = document.markdown(document.kept(leagues, MADE), "real")
    found = sections(page)
    # A budget of one is the league in which nobody tunes.
    names = ["Nobody tunes", "Equal budgets of 5 configurations for each", "How it was made"]
    assert list(found) == names
    assert f"The curves are those of the board *{names[1]}*." in page
    said = "`learned` ranks first of 3 optimizers and beats adam at the best of 5 configurations ("
    for name in names[:2]:
        assert said in found[name]
        ranked = [row[:3] for row in cells(found[name]) if row[0].isdigit()]
        for row, optimizer in zip(ranked, leagues["optimizers"], strict=True):
            score = optimizer["normalized"]["estimate"]
            assert int(row[0]) == optimizer["rank"]
            assert float(row[2].split()[0]) == pytest.approx(score, rel=6e-3)


def test_a_board_of_a_league_tells_speeds_and_those_of_a_search_with_it(leagues):
    found = sections(document.markdown(document.kept(leagues, MADE), "real"))
    for name, seconds in (
        ("Nobody tunes", "0.1"),
        ("Equal budgets of 5 configurations for each", "0.2"),
    ):
        (head,) = (row for row in cells(found[name]) if row[1:3] == ["reaches", "speed, steps"])
        assert head[3] == "speed, seconds"
        rows = [row for row in cells(found[name]) if row[0] == "`learned`"]
        assert [cell.split()[0] for cell in rows[0][2:4]] == ["0", seconds]


def test_a_column_says_who_diverged_where_somebody_did(report):
    page = document.markdown(document.kept(report, MADE), "real")
    (head,) = (row for row in cells(page) if row[:2] == ["rank", "optimizer"])
    assert any(each["num_diverged_runs"] for each in report["optimizers"])
    assert head[-1] == "diverged"
    calm = [each | {"num_diverged_runs": 0} for each in report["optimizers"]]
    page = document.markdown(document.kept(report | {"optimizers": calm}, MADE), "real")
    (head,) = (row for row in cells(page) if row[:2] == ["rank", "optimizer"])
    assert head[-1] == "won, lost"
    assert page.count("No run diverged.") == 1


def test_a_learned_optimizer_stands_beside_each_other_one(report):
    page = document.markdown(document.kept(report, MADE), "real")
    (text,) = re.findall(r"A run of `learned` ends below .*?\n\n(.*?)\n\n", page, re.S)
    found = {row[0]: row[1:] for row in cells(text)[2:]}
    others = [each["label"] for each in report["optimizers"] if each["label"] != "learned"]
    assert len(found) == len(others) == 2
    by_place = {(row["task"], row["optimizer"]): row["test_loss"] for row in report["rows"]}
    pairs = {(p["x"], p["y"]): p for p in report["probability_of_improvement"]}
    for other, (how_often, won) in zip(others, found.values(), strict=True):
        assert float(how_often.split()[0]) == pytest.approx(
            pairs["learned", other]["estimate"], rel=6e-3
        )
        lower = [
            by_place[task["name"], "learned"]["estimate"]
            < by_place[task["name"], other]["estimate"]
            for task in report["tasks"]
        ]
        assert won.split(", ")[0] == str(sum(lower))
        assert won.endswith(f" of {len(lower)}")


def test_losses_are_those_of_the_rows(report):
    page = document.markdown(document.kept(report, MADE), "real")
    losses = sections(page)["Who wins"].partition("Final test losses")[2]
    head, _, *rows = cells(losses)
    assert head[1:] == [f"`{task['name']}`" for task in report["tasks"]]
    by_place = {(row["task"], row["optimizer"]): row["test_loss"] for row in report["rows"]}
    for row, optimizer in zip(rows, report["optimizers"], strict=True):
        for shown, task in zip(row[1:], report["tasks"], strict=True):
            value = by_place[task["name"], optimizer["label"]]["estimate"]
            assert shown == "-" if value is None else float(shown) == pytest.approx(value, rel=6e-3)


def test_how_it_was_made_is_told(leagues):
    made = sections(document.markdown(document.kept(leagues, MADE), "real"))["How it was made"]
    suite, settings = leagues["suite"]["name"], leagues["settings"]
    command = (
        f"learned-opt evaluate learned.npz adam --suite {suite} --leagues untuned equal_budgets "
        f"--budgets 1 5 --num-seeds {settings['num_seeds']} "
        f"--num-tuning-seeds {settings['num_tuning_seeds']} --reference adam"
    )
    assert command in made
    for told in ("12.3", "2026-11-28", "a processor, 2 cores", "`0123456789ab`"):
        assert told in made


def test_the_script_writes_the_page_with_its_figures(leagues, tmp_path, capsys):
    folder, docs = tmp_path / "evaluation", tmp_path / "docs"
    folder.mkdir(), (docs / "results").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(leagues))
    (folder / "made.json").write_text(json.dumps(MADE))
    assert league_page.main([str(folder), "real", "--docs", str(docs)]) == 0
    content = json.loads((docs / "results" / "real.json").read_text())
    page = (docs / "results" / "real.md").read_text()
    assert page == document.markdown(content, "real")
    for figure in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page):
        assert (docs / "results" / figure).read_bytes().startswith(b"\x89PNG")
    assert "3 tasks and 3 optimizers" in capsys.readouterr().out


def test_an_evaluation_of_another_version_is_refused(report, tmp_path, capsys):
    older = {name: value for name, value in report.items() if name != "descent"}
    (tmp_path / "report.json").write_text(json.dumps(older))
    (tmp_path / "made.json").write_text(json.dumps(MADE))
    with pytest.raises(SystemExit):
        league_page.main([str(tmp_path), "real", "--docs", str(tmp_path)])
    assert "is of another version: it says nothing of 'descent'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "made"),
    [({"progress": {"to_come": ["vit"]}}, {}), ({}, {"finished": False}), (None, {})],
)
def test_what_is_not_complete_is_no_page(report, tmp_path, capsys, change, made):
    if change is not None:
        (tmp_path / "report.json").write_text(json.dumps(report | change))
        (tmp_path / "made.json").write_text(json.dumps(MADE | made))
    with pytest.raises(SystemExit) as ended:
        league_page.main([str(tmp_path), "real", "--docs", str(tmp_path)])
    assert ended.value.code == 2
    assert "holds no complete evaluation" in capsys.readouterr().err
    assert not list(tmp_path.rglob("real*"))
