"""list: the configs, tasks, optimizers, estimators and experiments that can be named."""

import dataclasses
import importlib
from typing import Literal

import tyro

from configs import base


@dataclasses.dataclass(frozen=True)
class Args:
    """List what can be named on the command line and in configs."""

    what: tyro.conf.Positional[
        Literal["all", "configs", "tasks", "optimizers", "estimators", "experiments"]
    ] = "all"
    """Only these."""


def run(args: Args) -> int:
    """Prints a line for each."""
    sections = {
        "configs": _configs,
        "tasks": lambda: _kinds(base.Family),
        "optimizers": _optimizers,
        "estimators": lambda: _kinds(base.Estimator),
        "experiments": _experiments,
    }
    for name, entries in sections.items():
        if args.what in ("all", name):
            print(f"{name}:")
            for entry, summary in entries().items():
                print(f"  {entry:<22} {summary}")
    return 0


def summary_of(doc: str | None) -> str:
    """The summary of a docstring on one line; none where Python left it out (`python -OO`)."""
    return " ".join((doc or "").strip().partition("\n\n")[0].split())


def _configs() -> dict[str, str]:
    from learned_opt_lab.runs.catalog import CONFIGS

    return {
        name: summary_of(importlib.import_module(module).__doc__)
        for name, module in CONFIGS.items()
    }


def _kinds(role: type[base.Kind]) -> dict[str, str]:
    """Kinds of a field of the config, by the words the command line knows."""
    return {kind.word: summary_of(kind.__doc__) for kind in base.kinds_of(role).values()}


def _optimizers() -> dict[str, str]:
    from learned_opt import catalog, pretrained_names
    from learned_opt_lab.runs.catalog import recipe_of

    names = {name: summary_of(factory.__doc__) for name, factory in catalog.OPTIMIZERS.items()}
    weights = {
        f"{name} (weights)": f"Ships with the library; made by `{recipe_of(name)}`."
        for name in pretrained_names()
    }
    return names | weights | _baselines()


def _baselines() -> dict[str, str]:
    """What `evaluate` and `tune` know by name, with the published default of a rival."""
    from learned_opt_lab.evaluation.baselines import BASELINES
    from learned_opt_lab.evaluation.rivals.table import RIVALS

    def told(name: str) -> str:
        description = BASELINES[name].description
        if name not in RIVALS:
            return f"{description}."
        rate = RIVALS[name].space.default["learning_rate"]
        return f"{description}; untuned at rate {rate:g} ({RIVALS[name].source})."

    return {f"{name} (baseline)": told(name) for name in BASELINES}


def _experiments() -> dict[str, str]:
    from learned_opt_lab.cli.commands.reproduce import experiments

    return {
        name: summary_of(importlib.import_module(module).__doc__)
        for name, module in experiments().items()
    }
