"""Whose a module is, by the file it is from: the project's own, the user's, or an installed one.

The user's count by the text of their files, and what is installed by its version and its text,
since one's own package may be installed too, and edited. The libraries that all is built on, which
`content.environment` names, count by their versions alone.
"""

import contextlib
import functools
import importlib.machinery
import importlib.metadata
import inspect
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path

from learned_opt_lab.results.digest import hexdigest

LIBRARIES = ("jax", "jaxlib", "optax", "flax", "numpy")
SHIPPED = (
    "tasks.",
    "learned_opt.",
    "outer_train.",
    *(f"learned_opt_lab.{name}." for name in ("evaluation", "results", "drawing")),
)
"""Packages whose modules count by `shipped_code`, not by the files that a callable leads to."""
_PROJECT = ("tasks", "learned_opt", "outer_train", "learned_opt_lab", "configs")
MAX_FILES, MAX_BYTES = 2_000, 1 << 24
"""Of an installed package; what is beyond counts by its version."""
_COMPILED = (
    *importlib.machinery.BYTECODE_SUFFIXES,
    *importlib.machinery.EXTENSION_SUFFIXES,
    *(".so", ".dll", ".dylib", ".a"),
)


class Found:
    """The user's modules and the installed packages that code leads to."""

    def __init__(self) -> None:
        self._modules: set[str] = set()
        self._packages: set[str] = set()

    def note(self, module_name: str | None) -> None:
        """Adds a module: a user's with all of the user's modules that it holds something of."""
        if package := installed_package(module_name):
            self._packages.add(package)
        if module_name in self._modules or not is_users(module_name):
            return
        self._modules.add(module_name)
        for value in list(vars(sys.modules[module_name]).values()):
            name = (
                value.__name__
                if isinstance(value, types.ModuleType)
                else getattr(value, "__module__", None)
            )
            if isinstance(name, str):
                self.note(name)

    def parts(self) -> Iterator[bytes]:
        """Names and texts of the modules, names and digests of the packages."""
        for name in sorted(self._modules):
            yield name.encode()
            try:
                yield Path(inspect.getfile(sys.modules[name])).read_bytes()
            except (OSError, TypeError):
                yield b"no file"
        for name in sorted(self._packages):
            yield from (name.encode(), _package_code(name).encode())


@functools.cache
def _library_folders() -> tuple[str, ...]:
    found = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    # A scheme's "data" is all of the prefix, a user's project in a container's root among it.
    return tuple(f"{path.rstrip('/')}/" for path in found - {sysconfig.get_path("data")})


def is_users(module_name: str | None) -> bool:
    """Whether a module is from a file that is neither of the project's packages nor
    of an installed library.
    """
    if module_name is None or f"{module_name}.".startswith(SHIPPED):
        return False
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return bool(file) and not file.startswith(_library_folders())


def installed_package(module_name: str | None) -> str | None:
    """The top package of a module that is installed, and neither of `LIBRARIES`, of Python nor of
    this project.
    """
    top = (module_name or "").partition(".")[0]
    if not top or top in LIBRARIES or top in _PROJECT or top in sys.stdlib_module_names:
        return None
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return top if file and file.startswith(_library_folders()) else None


@functools.cache
def _package_code(name: str) -> str:
    """Digest of an installed package: its version and its text, as far as the bounds reach.

    Once a process, since what was imported stays as it is.
    """
    version = ""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version(name)
    return hexdigest([version.encode(), *_texts(sys.modules.get(name))])


def _texts(module: types.ModuleType | None) -> Iterator[bytes]:
    """Names and contents of a package's text files, or of the one of a module, code first."""
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    paths = {
        path.relative_to(folder).as_posix(): path
        for folder in folders
        for path in folder.rglob("*")
        if not path.name.endswith(_COMPILED) and path.is_file()
    }
    if not folders and file:
        paths = {Path(file).name: Path(file)}
    left = MAX_BYTES
    for name in sorted(paths, key=lambda each: (not each.endswith(".py"), each))[:MAX_FILES]:
        with contextlib.suppress(OSError):
            if (left := left - paths[name].stat().st_size) < 0:
                return
            text = paths[name].read_bytes()
            if b"\0" not in text:
                yield from (name.encode(), text)
