"""reproduce NAME: run one experiment of the papers, or all, and write its numbers and figures."""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import shutil
import textwrap
import time
from pathlib import Path
from typing import Any, Literal

from learned_opt_lab.cli.options.fields import HELP, AtTop
from learned_opt_lab.cli.output import Outcome, say

RESULT = "result.json"
ALL = "all"
USUAL = ("out", "scale", "seed", "data-dir", "overwrite")
"""Flags that the first page of the help explains, of those that an experiment has."""


@dataclasses.dataclass(frozen=True)
class Everything:
    """All experiments, one after another, each in a folder of its name.

    The same command goes on where it was interrupted. One that fails does not stop the others, and
    the exit status is 1.
    """

    scale: Literal["default", "paper"] = "default"
    """Of each: "default" is minutes on two cores, "paper" is the paper's own."""


def parse(argv: list[str], prog: str) -> tuple[str, Any]:
    """Reads `NAME --out DIR [--field value ...]`;
    returns the experiment's module, or `ALL`, and its arguments.

    Raises:
      ValueError: there is no such experiment or field, or `--out` is missing.
    """
    from learned_opt_lab.cli.parsing import ASKS_FOR_HELP, HelpShown, parse
    from learned_opt_lab.runs import catalog

    known = experiments()
    if argv and argv[0] in ASKS_FOR_HELP:
        names = textwrap.fill(f"NAME is {ALL}, or one of {', '.join(known) or '(none)'}.", 80)
        print(
            f"usage: {prog} NAME --out DIR [--option VALUE ...]\n\n{names}\n\n"
            "learned-opt list experiments says what they are, NAME --help says more of one.\n"
            "An interrupted one goes on where it was, from the folder cells of DIR."
        )
        raise HelpShown
    if not argv or argv[0].startswith("-"):
        raise ValueError(f"{prog} needs an experiment first; known are {', '.join(known)}")
    name, rest = argv[0], argv[1:]
    if name == ALL:
        return ALL, parse(arguments_of(Everything), rest, f"{prog} {ALL}")
    if name not in known:
        raise ValueError(catalog.unknown("experiment", name, known))
    module = importlib.import_module(known[name])
    arguments = arguments_of(module.Config, module.__doc__ or "")
    return known[name], parse(arguments, rest, f"{prog} {name}")


def arguments_of(config_class: type, about: str = "") -> type:
    """A dataclass of `--out`, `--overwrite` and the experiment's own fields at the top level.

    Args:
      config_class: of the experiment.
      about: what the help says of it, before what it says of its sizes.
    """
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
        namespace={"__doc__": f"{about}\n\n{inspect.getdoc(config_class) or ''}", "usual": USUAL},
    )


def run(args: tuple[str, Any]) -> Outcome:
    """Runs the experiment, or all of them.

    Raises:
      ValueError: the directory holds another result and `overwrite` is false.
    """
    from learned_opt_lab.cli import progress
    from outer_train import use_cpu_devices

    name, given = args
    if name == ALL:
        return _run_all(given)
    _check(name, given)
    use_cpu_devices()
    with progress.phase(f"running {name.rpartition('.')[2]}", says=False):
        files = _run_one(name, given.config, given.out)
    return Outcome(
        0, {"out": given.out, "files": files}, f"{RESULT} and figures are in {given.out}"
    )


def _check(name: str, given: Any) -> None:
    """Raises `ValueError` for a folder that is another's; makes room there if it is to be."""
    from learned_opt_lab.results import resumable

    out: Path = given.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, not a directory")
    if resumable.holds(out, name, given.config):
        return
    if not given.overwrite and any((out / each).exists() for each in (RESULT, resumable.FOLDER)):
        raise ValueError(f"{out} holds a result; give another --out or --overwrite")
    shutil.rmtree(out / resumable.FOLDER, ignore_errors=True)


def _run_one(name: str, config: Any, out: Path) -> list[Path]:
    """Runs one experiment, and returns the files that are in its folder."""
    from learned_opt_lab.results import made, resumable
    from outer_train.run import lock

    module = importlib.import_module(name)
    fresh, pieces = not out.exists(), _written(out / resumable.FOLDER)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (
            lock.hold(out),
            made.timed(out, known_as(name), config.scale, not_at_default(config)) as work,
        ):
            module.run(config, out)
            work.anew = not pieces or _written(out / resumable.FOLDER) != pieces
    except ValueError:
        if fresh:  # bad input leaves nothing behind; results that are there already stay
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
    return sorted(path for path in out.iterdir() if path.is_file())


def _written(folder: Path) -> set[tuple[Path, int]]:
    """Files of a folder, and when they were written."""
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def _run_all(given: Any) -> Outcome:
    """Runs all experiments; what each came to is told when it ends."""
    import jax

    from learned_opt_lab.cli import progress
    from learned_opt_lab.cli.main import explain
    from outer_train import use_cpu_devices

    known = experiments()
    parts = {
        module: dataclasses.replace(
            given,
            out=given.out / name,
            config=importlib.import_module(module).Config(scale=given.config.scale),
        )
        for name, module in known.items()
    }
    for module, part in parts.items():
        _check(module, part)
    use_cpu_devices()
    rows: list[dict[str, Any]] = []
    with progress.shown_progress() as show:
        for name, (module, part) in zip(known, parts.items(), strict=True):
            show(len(rows), len(known), name)
            start, row = time.perf_counter(), {"name": name, "out": part.out, "status": 0}
            try:
                row["files"] = _run_one(module, part.config, part.out)
            except Exception as error:
                row["status"], lines = explain(error)
                row["error"] = lines[0]
            row["seconds"] = time.perf_counter() - start
            rows.append(row)
            say(f"{name}: {row.get('error', 'done')}, {row['seconds']:.0f} s")
            jax.clear_caches()
        show(len(rows), len(known), "done")
    failed = [row["name"] for row in rows if row["status"]]
    found = {"out": given.out, "experiments": rows}
    if failed:
        said = f"error: {len(failed)} of {len(rows)} experiments failed: {', '.join(failed)}"
        return Outcome(1, found, error=said)
    return Outcome(0, found, f"{len(rows)} results are in {given.out}, each in its folder")


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
