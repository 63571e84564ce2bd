"""What results follow from, as a digest: code, data and versions.

A cache that goes by names gives back old numbers.

The digest of a callable holds what it consists of (`code_parts`), and the text of every file of the
user's and of every installed package that it leads to (`origin`). What is shipped counts as one:
all sources of `tasks`, `learned_opt` and of what runs the inner loop here. Libraries count by their
versions.
"""

import ast
import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path
from typing import Any

import jax

from learned_opt_lab.results.code_parts import code_parts
from learned_opt_lab.results.digest import array_parts, hexdigest
from learned_opt_lab.results.origin import LIBRARIES, Found

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
    return hexdigest(part for path in files for part in (path.name.encode(), path.read_bytes()))


@functools.cache
def outer_training_code() -> str:
    """Digest of the sources that outer-training follows from besides those of `shipped_code`."""
    files = sorted(_package_folder("outer_train").rglob("*.py"))
    return hexdigest(part for path in files for part in (path.name.encode(), path.read_bytes()))


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
    return hexdigest(part for each in sorted(found) for part in (each.encode(), found[each]))


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
    and of the user's files and installed packages they are from.
    """
    seen: dict[int, Any] = {}
    found = Found()
    parts = [part for each in objects for part in code_parts(each, seen, found)]
    return hexdigest([*parts, *found.parts()])


def data(tree: Any) -> str:
    """Digest of a tree's structure and of its arrays' dtypes, shapes and values."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [str(structure).encode()]
    for leaf in leaves:
        parts.extend(array_parts(leaf))
    return hexdigest(parts)


def of_json(value: Any) -> str:
    """Digest of what JSON can hold."""
    return hexdigest([json.dumps(value, sort_keys=True).encode()])


def _package_folder(name: str) -> Path:
    return Path(importlib.util.find_spec(name).origin).parent
