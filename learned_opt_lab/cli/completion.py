"""What may come next on a command line, for Tab in a shell.

Nothing here imports JAX, and no file of the user's is run: a shell asks while he types.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

OPTIONS = ("--help", "--version", "--install-completion", "--show-completion")
"""What may stand in the place of a command."""
SHELLS = ("bash", "zsh")
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
RUN = "config.json"
"""A folder that has it holds a run."""
Names = Iterable[str]


def candidates(words: Sequence[str], commands: Names) -> list[str]:
    """What the last word may become; nothing where a file is meant, or nobody knows.

    Args:
      words: after the program's name; the last is the one that is typed, perhaps empty.
      commands: names of subcommands.
    """
    # bash makes three words of `--suite=real`, zsh one.
    *before, typed = [word for word in words[:-1] if word != "="] + list(words[-1:]) or [""]
    head, equals, current = typed.rpartition("=")
    if head:
        before.append(head)
    found = _after(before, current, commands)
    return [f"{head}{equals if head else ''}{name}" for name in found if name.startswith(current)]


def _after(before: list[str], current: str, commands: Names) -> Names:
    if not before:
        return [*commands, *OPTIONS]
    command, last = before[0], before[-1]
    if last in _VALUES:
        return _VALUES[last](current)
    if len(before) > 1 and last.startswith("-"):
        return []
    if current.startswith("-"):
        return _flags(before) if command in commands else []
    more = len(before) > 1 and command not in _MANY
    return [] if more or command not in _POSITIONAL else _POSITIONAL[command](current)


def _flags(before: list[str]) -> list[str]:
    """The flags of a command, with those of the config that is named."""
    from learned_opt_lab.cli.main import COMMANDS
    from learned_opt_lab.cli.options import page
    from learned_opt_lab.cli.options.fields import opposite_of, table_of

    command, *rest = before
    common = [*page.COMMON, page.ALL]
    if command == "reproduce":  # the fields of an experiment are known to what it runs on
        return sorted([*common, "--out", "--overwrite"])
    cls, default = importlib.import_module(COMMANDS[command]).Args, None
    if _POSITIONAL.get(command) is _configs:
        from configs.base import TrainConfig
        from learned_opt_lab.runs import catalog

        # A file of the user's would be run.
        is_known = rest and rest[0] in catalog.CONFIGS
        config = catalog.load(rest[0])[0] if is_known else TrainConfig()
        default = cls(config=config, config_name="", config_file=None)
    flags = table_of(cls, default).flags
    opposite = [
        opposite_of(name) for name, each in flags.items() if each.hint is bool and each.default
    ]
    return sorted([*flags, *opposite, *common])


def folder_of(package: str) -> Path:
    """Where a package lies, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(spec.origin).parent


def _configs(current: str) -> list[str]:
    return sorted(path.stem for path in folder_of("configs").glob("[!_]*.py"))


def shipped() -> list[str]:
    """Names of the weights that ship with the library."""
    return sorted(path.stem for path in (folder_of("learned_opt") / "pretrained").glob("*.npz"))


def _thetas(current: str) -> list[str]:
    return [*shipped(), *_runs(current)]


def _entries(current: str) -> list[str]:
    return list(dict.fromkeys([*shipped(), *_named("baselines")(current), *_runs(current)]))


def _named(section: str) -> "_Find":
    """The names of a section of `learned-opt list`, whose own table needs JAX."""

    def names(current: str) -> Names:
        from learned_opt_lab.cli.listing import tables

        return tables.read()[section]

    return names


def _listed(current: str) -> Names:
    from learned_opt_lab.cli.listing.command import SECTIONS

    return ["all", *SECTIONS]


def _estimators(current: str) -> list[str]:
    from configs import base

    return list(base.kinds_of(base.Estimator))


def _experiments(current: str) -> list[str]:
    from learned_opt_lab.papers.registry import EXPERIMENTS

    return [*EXPERIMENTS, "all"]


def _runs(current: str) -> list[str]:
    """Folders that begin so and hold a run, or runs."""
    folder = current[: current.rfind("/") + 1]
    try:
        # A line is a candidate: a name with a line break would be two.
        everything = sorted(Path(folder or ".").expanduser().iterdir())
        inside = [path for path in everything if path.name.isprintable()]
        found = [f"{folder}{path.name}" for path in inside if (path / RUN).is_file()]
        for path in inside:
            if not (path / RUN).is_file() and (runs := sorted(path.glob(f"*/{RUN}"))):
                found += [f"{folder}{path.name}/{run.parent.name}" for run in runs]
    except (OSError, RuntimeError):
        return []
    return found


_Find = Callable[[str], Names]
_POSITIONAL: dict[str, _Find] = {
    **dict.fromkeys(("train", "search", "ablate", "variance"), _configs),
    **dict.fromkeys(("resume", "watch", "compare"), _runs),
    "evaluate": _entries,
    "tune": _named("baselines"),
    "reproduce": _experiments,
    "list": _listed,
    "--install-completion": lambda current: SHELLS,
    "--show-completion": lambda current: SHELLS,
}
"""Command -> what its words without a flag may be."""
_MANY = ("evaluate", "tune", "resume", "watch", "compare")
"""Commands that take several of them, or flags before."""
_VALUES: dict[str, _Find] = {
    "--suite": _named("suites"),
    "--reference": _named("baselines"),
    "--theta": _thetas,
    "--init-theta": _thetas,
    "--optimizer.name": _named("optimizers"),
    "--estimators": _estimators,
    "--tracker": lambda current: TRACKERS,
    "--engine": lambda current: ("in-step", "ray"),
    "--leagues": lambda current: ("untuned", "equal_budgets", "none"),
}
"""Flag -> what its value may be."""
