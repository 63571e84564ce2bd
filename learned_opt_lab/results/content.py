"""What results follow from, as a digest: code, data and versions.

A cache that goes by names gives back old numbers.

The digest of a callable holds its bytecode, what it closes over, the arguments bound to it, and the
text of every file of the user's that it leads to. What is shipped counts as one: all sources of
`tasks`, `learned_opt` and of what runs the inner loop here. Libraries count by their versions.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import platform
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

LIBRARIES = ("jax", "jaxlib", "optax", "flax", "numpy")
SHIPPED = (
    "tasks.",
    "learned_opt.",
    "outer_train.",
    *(f"learned_opt_lab.{name}." for name in ("evaluation", "results", "drawing")),
)
"""Packages whose modules count by `shipped_code`, not by the files that a callable leads to."""
_OF_INNER_LOOP = (
    *("baselines", "regularized", "sweep", "training", "evaluation_parameters", "tuning"),
    *("measures", "held_out"),
    *("suite/run", "leagues/run"),
    *(
        f"rivals/{name}"
        for name in ("adapter", "factories", "rival", "schedules", "search_space", "table")
    ),
)
"""Modules of `learned_opt_lab.evaluation` that numbers follow from; the others only show them."""


def environment() -> dict[str, Any]:
    """Versions and settings of JAX under which another number may come out of the same code."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        "platform": device.platform,
        "device": device.device_kind,
        "x64": bool(jax.config.jax_enable_x64),
        "matmul_precision": jax.config.jax_default_matmul_precision,
    }


@functools.cache
def shipped_code() -> str:
    """Digest of the project's own sources that numbers of an inner loop follow from."""
    folders = [_package_folder(name) for name in ("tasks", "learned_opt")]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    files += [
        _package_folder("learned_opt_lab") / "evaluation" / f"{name}.py" for name in _OF_INNER_LOOP
    ]
    return _hexdigest(part for path in files for part in (path.name.encode(), path.read_bytes()))


@functools.cache
def outer_training_code() -> str:
    """Digest of the sources that outer-training follows from besides those of `shipped_code`."""
    files = sorted(_package_folder("outer_train").rglob("*.py"))
    return _hexdigest(part for path in files for part in (path.name.encode(), path.read_bytes()))


@functools.cache
def modules_code(name: str, within: tuple[str, ...]) -> str:
    """Digest of a module's source and of those that it imports, and they in turn, within packages;
    modules whose names end in `figure` or `figures` only draw, and do not count.
    """
    found: dict[str, bytes] = {}
    left, inside = [name], tuple(f"{package}." for package in within)
    while left:
        module = left.pop()
        spec = None if module in found else _module_spec(module)
        if spec is not None and not module.endswith(("figure", "figures")):
            found[module] = Path(spec.origin).read_bytes()
            left += [each for each in _imported(found[module]) if each.startswith(inside)]
    return _hexdigest(part for each in sorted(found) for part in (each.encode(), found[each]))


def _imported(source: bytes) -> set[str]:
    """What a source imports, at any depth: modules, and names of them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _module_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """None for what is no module but a name of one."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None


def code(*objects: Any) -> str:
    """Digest of callables, or of trees of them and of what parametrizes them,
    and of the user's files they are from.
    """
    seen: dict[int, Any] = {}
    files: set[str] = set()
    parts = [part for each in objects for part in _parts(each, seen, files)]
    return _hexdigest([*parts, *(part for name in sorted(files) for part in _file_parts(name))])


def data(tree: Any) -> str:
    """Digest of a tree's structure and of its arrays' dtypes, shapes and values."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [str(structure).encode()]
    for leaf in leaves:
        parts.extend(_array_parts(leaf))
    return _hexdigest(parts)


def of_json(value: Any) -> str:
    """Digest of what JSON can hold."""
    return _hexdigest([json.dumps(value, sort_keys=True).encode()])


def _hexdigest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # With its length in front, so that no two lists of parts run into the same bytes.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _array_parts(leaf: Any) -> Iterator[bytes]:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        yield str(leaf.dtype).encode()
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    yield f"{array.dtype}{array.shape}".encode()
    yield (
        repr(array.tolist()).encode()
        if array.dtype == object
        else np.ascontiguousarray(array).tobytes()
    )


def _parts(value: Any, seen: dict[int, Any], files: set[str]) -> Iterator[bytes]:
    """A value's bytes, those of what it holds and closes over among them;
    notes the user's files on the way.

    What was seen is held: some of it is made on the way, and another object would get its id.
    """
    yield type(value).__qualname__.encode()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.dtype):
        yield repr(value).encode()
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        yield from _array_parts(value)
    elif id(value) in seen:
        yield b"again"
    else:
        seen[id(value)] = value
        for part in _children(value, files):
            yield from _parts(part, seen, files)


def _children(value: Any, files: set[str]) -> Iterator[Any]:
    """What a value that is no number, text or array consists of."""
    if isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        _note_files(value.__module__, files)
        yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))
        yield from _named_globals(value)
        yield getattr(value, "__wrapped__", None)
    elif isinstance(value, types.CodeType):
        yield from (
            value.co_code,
            value.co_names,
            value.co_varnames[: value.co_argcount],
            list(value.co_consts),
        )
    elif isinstance(value, types.ModuleType):
        _note_files(value.__name__, files)
        yield value.__name__
    elif isinstance(value, type):
        _note_files(value.__module__, files)
        yield f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            yield from (key, value[key])
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif dataclasses.is_dataclass(value):
        yield type(value)
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(value))
    else:
        yield type(value)
        # What `jax.jit` and its like hold.
        if callable(wrapped := getattr(value, "__wrapped__", None)):
            yield wrapped
        elif isinstance(attributes := getattr(value, "__dict__", None), dict):
            yield attributes


def _named_globals(function: types.FunctionType) -> Iterator[Any]:
    """Values of the globals that a user's function names:
    a constant of its module may be set from outside.
    """
    if _is_users(function.__module__):
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                yield from (name, function.__globals__[name])


def _names(compiled: types.CodeType) -> set[str]:
    inner = (const for const in compiled.co_consts if isinstance(const, types.CodeType))
    return set(compiled.co_names).union(*map(_names, inner))


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  Empty while the function it belongs to is being defined.
    except ValueError:
        return False
    return True


def _note_files(module_name: str | None, files: set[str]) -> None:
    """Adds a user's module and all of the user's modules that it holds something of."""
    if module_name in files or not _is_users(module_name):
        return
    files.add(module_name)
    for value in list(vars(sys.modules[module_name]).values()):
        name = (
            value.__name__
            if isinstance(value, types.ModuleType)
            else getattr(value, "__module__", None)
        )
        if isinstance(name, str):
            _note_files(name, files)


@functools.cache
def _library_folders() -> tuple[str, ...]:
    found = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    # A scheme's "data" is all of the prefix, a user's project in a container's root among it.
    return tuple(f"{path.rstrip('/')}/" for path in found - {sysconfig.get_path("data")})


def _is_users(module_name: str | None) -> bool:
    """Whether a module is from a file that is neither of the project's packages nor
    of an installed library.
    """
    if module_name is None or f"{module_name}.".startswith(SHIPPED):
        return False
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return bool(file) and not file.startswith(_library_folders())


def _file_parts(module_name: str) -> Iterator[bytes]:
    yield module_name.encode()
    try:
        yield Path(inspect.getfile(sys.modules[module_name])).read_bytes()
    except (OSError, TypeError):
        yield b"no file"


def _package_folder(name: str) -> Path:
    return Path(importlib.util.find_spec(name).origin).parent
