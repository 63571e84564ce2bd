"""list: what can be named: configs, tasks, optimizers, rivals, schedules, suites, estimators."""

import dataclasses
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Literal

from configs import base
from learned_opt_lab.cli.listing import tables
from learned_opt_lab.cli.listing.docstrings import summary, summary_of
from learned_opt_lab.cli.options.fields import Positional, docstring_of
from learned_opt_lab.cli.output import Outcome

LEFT = 25
"""Columns of the names."""
ENDLESS = 10**6
"""Columns of a line that is not to be broken."""


@dataclasses.dataclass(frozen=True)
class Args:
    """List what can be named on the command line and in configs."""

    what: Positional[
        Literal[
            "all",
            "configs",
            "tasks",
            "optimizers",
            "baselines",
            "rivals",
            "schedules",
            "suites",
            "estimators",
            "experiments",
        ]
    ] = "all"
    """Only these: configs, tasks, optimizers (that are learned), baselines (each with a search of
    its own), rivals (with a published default), schedules (that evaluate searches over), suites,
    estimators or experiments."""


def run(args: Args) -> Outcome:
    """Prints a line for each; imports no JAX."""
    found = {name: entries() for name, entries in SECTIONS.items() if args.what in ("all", name)}
    # A line for each where another program reads it.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else ENDLESS
    for name, entries in found.items():
        print(f"{name}:")
        for entry, text in entries.items():
            indent = " " * LEFT
            first = f"  {entry:<{LEFT - 3}} "
            print(
                textwrap.fill(
                    text, max(columns, 2 * LEFT), initial_indent=first, subsequent_indent=indent
                )
            )
    return Outcome(found=found)


def _configs() -> dict[str, str]:
    from learned_opt_lab.runs.catalog import CONFIGS

    return {name: summary_of(module) for name, module in CONFIGS.items()}


def _kinds(role: type[base.Kind]) -> dict[str, str]:
    """Kinds of a field of the config, by the words the command line knows."""
    return {kind.word: summary(docstring_of(kind)) for kind in base.kinds_of(role).values()}


def _optimizers() -> dict[str, str]:
    from learned_opt_lab.cli.completion import shipped
    from learned_opt_lab.runs.catalog import recipe_of

    weights = {
        f"{name} (weights)": f"Ships with the library; made by `{recipe_of(name)}`."
        for name in shipped()
    }
    return tables.read()["optimizers"] | weights


def _experiments() -> dict[str, str]:
    from learned_opt_lab.cli.commands.reproduce import experiments

    return {name: summary_of(module) for name, module in experiments().items()}


SECTIONS: dict[str, Callable[[], dict[str, str]]] = {
    "configs": _configs,
    "tasks": lambda: _kinds(base.Family),
    "optimizers": _optimizers,
    "baselines": lambda: tables.read()["baselines"],
    "rivals": lambda: tables.read()["rivals"],
    "schedules": lambda: tables.read()["schedules"],
    "suites": lambda: tables.read()["suites"],
    "estimators": lambda: _kinds(base.Estimator),
    "experiments": _experiments,
}
"""What is listed -> name -> one line on it."""
