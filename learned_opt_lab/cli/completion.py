"""What may come next on a command line, for Tab in a shell.

Nothing here imports JAX, and no file of the user's is run: a shell asks while he types.
"""

import contextlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

SUITES = (
    "quick",
    "heldout",
    "width",
    "depth",
    "horizon",
    "dataset",
    "architecture",
    "real",
    "real_quick",
)
BASELINES = (
    "sgd",
    "momentum",
    "rmsprop",
    "adam",
    "adamw",
    "nadamw",
    "lion",
    "adabelief",
    "muon",
    "schedule_free",
    "prodigy",
    "dadapt_adamw",
    "ademamix",
    "adopt",
    "momo_adam",
    "sophia",
    "adam_1e-3",
    "adam8",
    "hd",
    "rtho",
    "marthe",
)
OPTIMIZERS = ("mlp", "adafactor_mlp", "sgd", "momentum", "adam", "adam8")
"""Names whose tables need JAX; a test compares them with those."""
OPTIONS = ("--help", "--version", "--install-completion", "--show-completion")
"""What may stand in the place of a command."""
SHELLS = ("bash", "zsh")
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
LISTED = ("all", "configs", "tasks", "optimizers", "estimators", "experiments")
RUN = "config.json"
"""A folder that has it holds a run."""
FLAG = re.compile(r"--[a-z][\w.-]*")
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
    """The flags that the command's help explains, with those of the config that is named."""
    from learned_opt_lab.cli.main import main

    command, *rest = before
    if command == "reproduce":  # the help of an experiment imports what it runs on
        return ["--help", "--out", "--overwrite"]
    named = [word for word in rest[:1] if _POSITIONAL.get(command) is _configs]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(io.StringIO()):
        main([command, *(word for word in named if word in _configs("")), "--help"])
    lines = (line.lstrip("│ ") for line in shown.getvalue().splitlines())
    return sorted({flag for line in lines if line.startswith("-") for flag in FLAG.findall(line)})


def folder_of(package: str) -> Path:
    """Where a package lies, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(spec.origin).parent


def _configs(current: str) -> list[str]:
    return sorted(path.stem for path in folder_of("configs").glob("[!_]*.py"))


def _shipped() -> list[str]:
    return sorted(path.stem for path in (folder_of("learned_opt") / "pretrained").glob("*.npz"))


def _thetas(current: str) -> list[str]:
    return [*_shipped(), *_runs(current)]


def _entries(current: str) -> list[str]:
    return list(dict.fromkeys([*_shipped(), *BASELINES, *_runs(current)]))


def _estimators(current: str) -> list[str]:
    from configs import base

    return list(base.kinds_of(base.Estimator))


def _experiments(current: str) -> list[str]:
    from learned_opt_lab.papers.registry import EXPERIMENTS

    return list(EXPERIMENTS)


def _runs(current: str) -> list[str]:
    """Folders that begin so and hold a run, or runs."""
    folder = current[: current.rfind("/") + 1]
    try:
        inside = sorted(path for path in Path(folder or ".").expanduser().iterdir())
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
    "tune": lambda current: BASELINES,
    "reproduce": _experiments,
    "list": lambda current: LISTED,
    "--install-completion": lambda current: SHELLS,
    "--show-completion": lambda current: SHELLS,
}
"""Command -> what its words without a flag may be."""
_MANY = ("evaluate", "tune", "resume", "watch", "compare")
"""Commands that take several of them, or flags before."""
_VALUES: dict[str, _Find] = {
    "--suite": lambda current: SUITES,
    "--reference": lambda current: BASELINES,
    "--theta": _thetas,
    "--init-theta": _thetas,
    "--optimizer.name": lambda current: OPTIMIZERS,
    "--estimators": _estimators,
    "--tracker": lambda current: TRACKERS,
    "--engine": lambda current: ("in-step", "ray"),
    "--leagues": lambda current: ("untuned", "equal_budgets"),
}
"""Flag -> what its value may be."""
