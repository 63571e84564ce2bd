"""Experiments in pieces: what is computed once is read when the command starts again.

A piece is a cell of `learned_opt_lab.results.cells` in the folder `cells` beside the result,
written whole or not at all. It counts only for the config, code, data and versions that it was made
with; one that is damaged or was made otherwise is told and made again. What a piece gives is read
back from its files, where it is new, too: an experiment that was interrupted gives what another
does, to the bit.
"""

import copy
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

from learned_opt.disk import reading
from learned_opt_lab.results import cells as cell_files
from learned_opt_lab.results import content, folder

FOLDER, SETTINGS = "cells", "experiment.json"
FORMAT_VERSION = 1
PACKAGES = ("learned_opt_lab.papers", "learned_opt_lab.evaluation")
"""Those whose code counts where an experiment imports it; what they stand on counts as one."""
T = TypeVar("T")


class Cells:
    """The pieces of one experiment; see `__call__`.

    Example:
      >>> cells = Cells(Path("out"), __name__, config, Slices)
      >>> slices = cells("slices", lambda: theta_slices(config))
    """

    def __init__(
        self, out: Path, experiment: str, config: Any, *types: type, data: Any = ()
    ) -> None:
        """Touches no file.

        Args:
          out: the experiment's folder.
          experiment: name of its module, whose code counts with what it imports of
            `learned_opt_lab.papers` and `.evaluation`, but for what only draws.
          config: a dataclass; another one is refused in the same folder.
          types: NamedTuples that pieces hold.
          data: arrays that pieces follow from.
        """
        self._place, self._prefix = out / FOLDER, ""
        self._types = {each.__name__: each for each in types}
        self._experiment, self._config, self._data = experiment, config, data
        self._made_of: dict[str, Any] = {}

    def within(self, name: str) -> "Cells":
        """The same pieces, named from the folder `name` on."""
        inner = copy.copy(self)
        inner._prefix = f"{self._prefix}{name}/"
        return inner

    def __call__(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives: from the piece's files, or computed and written to them.

        Args:
          name: of the piece's files, with `/` for folders.
          make: gives dicts, lists, tuples and `types` of arrays, numbers, text and None; arrays
            come back as NumPy's.

        Raises:
          ValueError: the folder holds pieces of another experiment or config.
          TypeError: something else is in what `make` gave.
        """
        stem, made_of = self._stem(name), self._prepared()
        if (stored := cell_files.read(stem, made_of)) is None:
            arrays: dict[str, NDArray] = {}
            tree = self._packed(make(), arrays)
            cell_files.write(stem, arrays, {"tree": tree}, made_of)
            stored = cell_files.read(stem, made_of)
            for kept in stem.parent.glob(f"{stem.name}.checkpoints-*"):
                shutil.rmtree(kept, ignore_errors=True)
        assert stored is not None
        return self._unpacked(stored.record["tree"], stored.arrays)

    def checkpoints(self, name: str) -> Path:
        """A folder for what a long piece keeps while it is made, deleted with its end; one that is
        made of something else has another.
        """
        digest = content.of_json(self._prepared())[:12]
        return self._stem(name).with_name(f"{self._stem(name).name}.checkpoints-{digest}")

    def _stem(self, name: str) -> Path:
        return self._place / f"{self._prefix}{name}"

    def _prepared(self) -> dict[str, Any]:
        """What the pieces are made of, after the folder was made or checked."""
        if not self._made_of:
            wanted = settings(self._experiment, self._config)
            folder.prepare_folder(
                self._place, SETTINGS, wanted, "experiment", "choose another --out"
            )
            self._made_of |= {
                "code": content.modules_code(self._experiment, PACKAGES),
                "shipped_code": content.shipped_code(),
                "outer_training_code": content.outer_training_code(),
                "data": content.data(self._data),
                "versions": content.environment(),
            }
        return self._made_of

    def _packed(self, value: Any, arrays: dict[str, NDArray]) -> Any:
        """JSON in which names stand for arrays; the arrays are added to `arrays`."""
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, np.generic | np.ndarray | jax.Array):
            return {"scalar" if isinstance(value, np.generic) else "array": _add(value, arrays)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, dict):
            pairs = [[self._packed(part, arrays) for part in pair] for pair in value.items()]
            return {"dict": pairs}
        kind = type(value).__name__
        if type(value) not in (list, tuple, self._types.get(kind)):
            raise TypeError(f"a cell cannot hold a {kind}")
        return {kind: [self._packed(part, arrays) for part in value]}

    def _unpacked(self, tree: Any, arrays: dict[str, NDArray]) -> Any:
        """Inverse of `_packed`."""
        if not isinstance(tree, dict):
            return tree
        ((kind, of),) = tree.items()
        if kind in ("scalar", "array"):
            return arrays[of][()] if kind == "scalar" else arrays[of]
        if kind == "float":
            return float(of)
        if kind == "dict":
            return dict([self._unpacked(part, arrays) for part in pair] for pair in of)
        parts = [self._unpacked(part, arrays) for part in of]
        if kind in ("list", "tuple"):
            return parts if kind == "list" else tuple(parts)
        return self._types[kind](*parts)


def settings(experiment: str, config: Any) -> dict[str, Any]:
    """What makes two folders those of one experiment; JSON."""
    about = {
        "format_version": FORMAT_VERSION,
        "experiment": experiment,
        "config": dataclasses.asdict(config),
    }
    return json.loads(json.dumps(about))


def holds(out: Path, experiment: str, config: Any) -> bool:
    """Whether a folder has pieces of this very experiment and config."""
    try:
        found = reading.read_json(out / FOLDER / SETTINGS, folder.MAX_BYTES)
    except (OSError, ValueError):
        return False
    return found == settings(experiment, config)


def _add(value: Any, arrays: dict[str, NDArray]) -> str:
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.isbuiltin != 1:
        raise TypeError(f"a cell cannot hold an array of {array.dtype}")
    name = f"array_{len(arrays)}"
    arrays[name] = array
    return name
