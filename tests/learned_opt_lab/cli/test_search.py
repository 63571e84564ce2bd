"""What `learned-opt search` refuses,
and that what ships is made by the command that `list` shows.
"""

from pathlib import Path

import pytest

from configs import base
from learned_opt import pretrained_names
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs import catalog

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["quadratic"], "quadratic has no search; `learned-opt train quadratic` trains it"),
        (["general", "--generations", "0"], "--generations must be at least 1, got 0"),
        (["generl"], "did you mean general"),
        ([], "needs a config first"),
    ],
)
def test_what_cannot_be_searched_is_refused(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *argv]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_list_shows_the_command_that_makes_what_ships(capsys):
    assert main(["list", "optimizers"]) == 0
    shown = capsys.readouterr().out
    for name, command in {
        "general": "search general",
        "general_es": "train general_es",
        "mlp": "train digits_mlp",
    }.items():
        (line,) = (line for line in shown.splitlines() if line.split()[:2] == [name, "(weights)"])
        assert f"`learned-opt {command}`" in line
        card = (ROOT / "learned_opt" / "pretrained" / f"{name}.md").read_text(encoding="utf-8")
        assert f"**Reproduce** with `learned-opt {command}" in card
    assert set(catalog.MADE_BY) == set(pretrained_names())


def test_the_searches_of_what_ships():
    general, general_es = (catalog.load(name)[0] for name in ("general", "general_es"))
    assert isinstance(general.search, base.StepSearch)
    assert general.init_theta == "general_es"
    assert isinstance(general_es.search, base.StartSearch)
    assert catalog.load("digits_mlp")[0].search is None
