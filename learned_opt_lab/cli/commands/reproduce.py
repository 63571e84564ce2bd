"""reproduce NAME: run one experiment of the papers and write its numbers and figures."""

import contextlib
import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from learned_opt_lab.cli.options.fields import HELP, AtTop
from learned_opt_lab.cli.output import Outcome

RESULT = "result.json"


def parse(argv: list[str], prog: str) -> tuple[str, Any]:
    """Reads `NAME --out DIR [--field value ...]`;
    returns the experiment's module and its arguments.

    Raises:
      ValueError: there is no such experiment or field, or `--out` is missing.
    """
    from learned_opt_lab.cli.parsing import ASKS_FOR_HELP, HelpShown, parse
    from learned_opt_lab.runs import catalog

    known = experiments()
    if argv and argv[0] in ASKS_FOR_HELP:
        print(
            f"usage: {prog} NAME --out DIR [--field value ...]\n\n"
            f"NAME is one of {', '.join(known) or '(none)'}"
        )
        raise HelpShown
    if not argv or argv[0].startswith("-"):
        raise ValueError(f"{prog} needs an experiment first; known are {', '.join(known)}")
    name, rest = argv[0], argv[1:]
    if name not in known:
        raise ValueError(catalog.unknown("experiment", name, known))
    module = importlib.import_module(known[name])
    return known[name], parse(arguments_of(module.Config), rest, f"{prog} {name}")


def arguments_of(config_class: type) -> type:
    """A dataclass of `--out`, `--overwrite` and the experiment's own fields at the top level."""
    return dataclasses.make_dataclass(
        "Args",
        [
            (
                "out",
                Path,
                dataclasses.field(metadata={HELP: "Directory for result.json and the figures."}),
            ),
            ("config", AtTop[config_class], dataclasses.field(default=config_class())),
            (
                "overwrite",
                bool,
                dataclasses.field(
                    default=False, metadata={HELP: "Replace another result in that directory."}
                ),
            ),
        ],
        frozen=True,
        namespace={"__doc__": config_class.__doc__},
    )


def run(args: tuple[str, Any]) -> Outcome:
    """Runs the experiment.

    Raises:
      ValueError: the directory holds another result and `overwrite` is false.
    """
    from learned_opt_lab.cli import progress
    from learned_opt_lab.results import made
    from outer_train import use_cpu_devices

    name, given = args
    out: Path = given.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, not a directory")
    if (out / RESULT).exists() and not given.overwrite:
        raise ValueError(f"{out} holds a result; give another --out or --overwrite")
    use_cpu_devices()
    module = importlib.import_module(name)
    fresh = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (
            progress.phase(f"running {name.rpartition('.')[2]}", says=False),
            made.timed(out, known_as(name), given.config.scale, not_at_default(given.config)),
        ):
            module.run(given.config, out)
    except ValueError:
        if fresh:  # bad input leaves nothing behind; results that are there already stay
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
    files = sorted(path for path in out.iterdir() if path.is_file())
    return Outcome(0, {"out": out, "files": files}, f"{RESULT} and figures are in {out}")


def known_as(module: str) -> str:
    """The name of the experiment that a module holds."""
    return next(name for name, path in experiments().items() if path == module)


def not_at_default(config: Any) -> dict[str, Any]:
    """Fields but the scale that differ from what a config without arguments has."""
    default = type(config)()
    pairs = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {
        name: value
        for name, value in pairs.items()
        if name != "scale" and value != getattr(default, name)
    }


def experiments() -> dict[str, str]:
    """The experiments of this version, name -> module."""
    if importlib.util.find_spec("learned_opt_lab.papers.registry") is None:
        return {}
    return importlib.import_module("learned_opt_lab.papers.registry").EXPERIMENTS
