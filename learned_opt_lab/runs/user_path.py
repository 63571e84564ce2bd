"""Where modules of the user are looked for, and that none of them takes the place of one of ours.

The packages of this project have plain names. A `tasks.py` beside a user's config, or in the folder
a command is started in, must not become what `import tasks` means here.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

OWN = ("configs", "learned_opt", "learned_opt_lab", "outer_train", "tasks")
"""The packages of this project."""
Passed = tuple[type[Exception], ...]
_ROOT = str(Path(__file__).resolve().parents[2])
_directories: list[Path] = []


class _OwnFirst(importlib.abc.MetaPathFinder):
    """Finds the packages of this project where this file is, whatever `sys.path` holds."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target=None):
        """The spec of a top-level package of ours; None for everything else."""
        if path is not None or fullname not in OWN:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [_ROOT])


_FINDER = _OwnFirst()


def own_first() -> None:
    """From here on our names mean our packages.

    Raises:
      ImportError: one of them means another module already.
    """
    for name in OWN:
        found = sys.modules.get(name)
        others = [getattr(found, "__file__", None), *getattr(found, "__path__", ())]
        if other := next((each for each in others if each and not _is_ours(each, name)), None):
            raise ImportError(
                f"{name!r} is imported from {other}, but is a package of learned-opt too; rename "
                "yours",
                name=name,
            )
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def _is_ours(place: str, name: str) -> bool:
    folder = Path(_ROOT, name)
    return Path(place).resolve() in (folder, folder / "__init__.py")


def add_to_path(directory: Path) -> None:
    """Lets `module:name` in a config mean a module in `directory`.

    It is looked into last: a user's `tree.py` must not become a module that a library imports in
    the middle of a run.
    """
    own_first()
    if directory not in _directories:
        _directories.append(directory)
    if str(directory) not in sys.path:
        sys.path.append(str(directory))


def run_file(path: Path, name: str, what: str, passed: Passed = ()) -> ModuleType:
    """A user's file, run as a module of that name; modules beside it are found.

    Args:
      path: of the file.
      name: under which dataclasses and digests of code find it in `sys.modules`.
      what: the file is, for messages.
      passed: errors that go on as they are.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: one line on what the file raises.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    add_to_path(path.absolute().parent)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    run_users(lambda: spec.loader.exec_module(module), f"{what} {path} cannot be run", passed)
    return module


def run_users(call: Callable[[], Any], what: str, passed: Passed = ()) -> Any:
    """What a user's code gives; one line, a `ValueError`, on what it raises but for `passed`."""
    try:
        return call()
    except passed:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        first = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{what}: {type(error).__name__}: {first}") from error


def hidden_modules(text: str) -> list[str]:
    """One line for each module of the user that `text`, an error, names,
    and that is hidden by another of its name.
    """
    lines = []
    for name in dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text)):
        other = getattr(sys.modules.get(name), "__file__", None)
        for directory in _directories if other else ():
            mine = _module_of(directory, name)
            if mine is None or Path(other).resolve() in _files_of(mine):
                continue
            whose = "a package of learned-opt" if name in OWN else "an installed module"
            lines.append(
                f"{mine} is not looked at, since {name!r} is {whose} ({other}); rename yours"
            )
    return lines


def _module_of(directory: Path, name: str) -> Path | None:
    """Where a directory has a module of that name: a file, or a folder with Python files, of which
    `__init__.py` may be none.
    """
    file, folder = directory / f"{name}.py", directory / name
    try:
        if (folder / "__init__.py").is_file() or not file.is_file():
            return folder if next(folder.glob("*.py"), None) else None
        return file
    except (OSError, ValueError):  # no name of a file: too long, or not to be read
        return None


def _files_of(module: Path) -> tuple[Path, Path]:
    """What `__file__` of a module may be."""
    return module.resolve(), (module / "__init__.py").resolve()
