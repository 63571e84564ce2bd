"""Fields become options, and words their values."""

import dataclasses
import re
from pathlib import Path
from typing import Literal

import pytest

from configs import base
from learned_opt_lab.cli.commands.evaluate import Args as Evaluate
from learned_opt_lab.cli.commands.train import Args as Train
from learned_opt_lab.cli.options.fields import Positional, table_of
from learned_opt_lab.cli.options.values import metavar, shown
from learned_opt_lab.cli.parsing import HelpShown, parse, parse_with_config, with_fields
from learned_opt_lab.runs import catalog


@dataclasses.dataclass(frozen=True)
class Inner:
    """What is within."""

    rate: float = 0.1
    """A rate."""
    pair: tuple[int, float] = (1, 2.0)
    """Two numbers."""


@dataclasses.dataclass(frozen=True)
class Args:
    """A command.

    With a second paragraph."""

    names: Positional[tuple[str, ...]]
    """Names."""
    out: Path
    """Where to."""
    cells: tuple[tuple[int | None, float], ...] | None = None
    """Cells."""
    how: Literal["a", "b"] = "a"
    """How."""
    is_on: bool = True
    """Whether."""
    kwargs: dict[str, int | float | bool | str] = dataclasses.field(default_factory=dict)
    """Arguments."""
    inner: Inner = dataclasses.field(default_factory=Inner)
    """Inner."""


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("", {}),
        ("--how=b --no-is-on", {"how": "b", "is_on": False}),
        ("--cells 3 0.5 None 1e-3", {"cells": ((3, 0.5), (None, 1e-3))}),
        ("--cells None", {"cells": None}),
        (
            "--kwargs n 3 x 0.5 b True s word",
            {"kwargs": {"n": 3, "x": 0.5, "b": True, "s": "word"}},
        ),
        ("--inner.rate -0.5 --inner.pair 3 -1e-3", {"inner": Inner(-0.5, (3, -1e-3))}),
        ("--is_on", {}),
    ],
)
def test_words_become_values(line, changed):
    read = parse(Args, ["one", "--out", "here", *line.split()], "prog")
    expected = {"names": ("one",), "out": Path("here"), **changed}
    assert read == Args(**expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--out x", "prog needs NAMES ..."),
        ("one", "prog needs --out PATH"),
        ("one --out", "--out needs PATH, got nothing"),
        ("one --out x --how c", "--how must be one of a, b, got 'c'"),
        ("one --out x --hwo a", "unknown option --hwo; did you mean --how"),
        ("one --out x --inner.rate fast", "--inner.rate must be a number, got 'fast'"),
        ("one --out x --inner.pair 3", "--inner.pair needs INT NUMBER, got 3"),
        ("one --out x --kwargs n", "--kwargs takes pairs of a name and a value; 'n' is alone"),
        ("one --out x --cells 3", "--cells takes 2 words at a time, got 1"),
    ],
)
def test_words_that_say_no_value(line, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        parse(Args, line.split(), "prog")
    assert message in str(caught.value)


def test_a_kind_that_is_chosen_starts_from_its_defaults():
    read = parse_with_config(Train, ["quadratic", "estimator:merged"], "p").config.estimator
    assert read == base.Merged()
    kept = parse_with_config(Train, ["quadratic", "estimator:persistent-es"], "p").config
    assert kept == catalog.load("quadratic")[0]
    with pytest.raises(
        ValueError, match=r"--truncation.low is an option of truncation:log-uniform"
    ):
        parse_with_config(Train, ["quadratic", "--truncation.low", "3"], "p")


def test_fields_of_a_sweep():
    config = catalog.load("quadratic")[0]
    changed = with_fields(config, {"estimator.std": "0.5", "optimizer.hidden_sizes": "4 4"})
    assert changed.estimator == dataclasses.replace(config.estimator, std=0.5)
    assert changed.optimizer.hidden_sizes == (4, 4)
    assert with_fields(config, {"estimator": "full-es"}).estimator == base.FullES()
    for value in (True, False):
        family = with_fields(catalog.load("quickstart")[0], {"family.grayscale": str(value)}).family
        assert family.grayscale is value
        fields = {"estimator.persistent": str(value), "estimator": "forward-mode"}
        assert with_fields(config, fields).estimator.persistent is value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_outer_steps", "5 --seed 3", "num_outer_steps cannot be '5 --seed 3': --seed is an"),
        ("num_outer_steps", "5 estimator:full-es", "estimator:full-es is an option"),
        ("num_outer_steps", "5 --help", "--help is an option"),
        ("estimator", "merged --seed 3", "unknown choice"),
        ("num_outer_steps", "5 6", "--sweep does not take '6'"),
        ("help", "1", "help is no field of a config"),
        ("problem.truncate", "True", "unknown option --problem.truncate"),
        ("family.grayscale", "yes", "--family.grayscale must be one of True, False, got 'Yes'"),
    ],
)
def test_a_value_of_a_sweep_is_of_one_field(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        with_fields(catalog.load("quickstart")[0], {name: value})


@pytest.mark.parametrize("argv", [["quadratic"], []])
def test_the_first_page_of_train_is_a_screen(argv, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(HelpShown):
        parse_with_config(Train, [*argv, "--help"], "learned-opt train")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    with pytest.raises(HelpShown):
        parse_with_config(Train, [*argv, "--help-all"], "learned-opt train")
    assert len(capsys.readouterr().out.splitlines()) > 100


def test_the_first_page_of_evaluate_is_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(HelpShown):
        parse(Evaluate, ["--help"], "learned-opt evaluate")
    page = capsys.readouterr().out
    assert len(page.splitlines()) <= 40
    assert "(default" not in page
    assert "{None}" not in page
    with pytest.raises(HelpShown):
        parse(Evaluate, ["--help-all"], "learned-opt evaluate")
    assert "--num-tuning-seeds INT" in capsys.readouterr().out


def test_what_is_used_most_is_there():
    for cls in (Train, Evaluate):
        default = (
            cls(config=base.TrainConfig(), config_name="", config_file=None)
            if cls is Train
            else None
        )
        flags = table_of(cls, default).flags
        assert [name for name in cls.usual if f"--{name}" not in flags] == []


def test_a_page_shows_defaults_and_paragraphs(capsys):
    with pytest.raises(HelpShown):
        parse(Args, ["--help"], "prog")
    page = capsys.readouterr().out
    for part in (
        "usage: prog NAMES ...",
        "With a second paragraph.",
        "--[no-]is-on",
        "A rate. [0.1]",
    ):
        assert part in page
    assert "--how a|b" in page


def test_a_docstring_s_attributes_explain_options(capsys):
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        """What it is about.

        Attributes:
          width: of the `hidden` layers,
            all of them.
          depth: how many.

        More about it.
        """

        width: int = 3
        depth: int = 2
        """Said below."""

    with pytest.raises(HelpShown):
        parse(Sizes, ["--help"], "prog")
    page = capsys.readouterr().out
    assert "Of the hidden layers, all of them. [3]" in page
    assert "Said below. [2]" in page
    assert "More about it." in page
    assert "Attributes" not in page


def test_names_of_values():
    assert metavar(tuple[tuple[int | None, float], ...] | None) == "INT NUMBER ..."
    assert [shown(value) for value in (None, (), 0, 0.0, (1, 2), True)] == [
        "", "", "0", "0", "1 2", "yes",
    ]  # fmt: skip
