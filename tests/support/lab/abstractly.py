"""Experiments of the papers, run with programs that are built and not run:
nothing of a program's size is allocated.

`jax.jit` is replaced: a call evaluates the shapes of what it would give, notes the program, and
gives ones of those shapes that take no memory. What lies between the programs runs as it is.

    python -m tests.support.lab.abstractly [NAME ...]

prints what each experiment's largest program takes at the paper's scale.
"""

import contextlib
import functools
import importlib
import math
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np

from learned_opt_lab.papers.registry import EXPERIMENTS
from learned_opt_lab.results import content
from outer_train import memory, side_by_side
from tasks.images import ImageData, datasets

DEVICE_BYTES = 80 * 10**9
"""Of the device that experiments believe to have."""
SETS = {
    "imagenet_resized/32x32": (1_281_167, 50_000, (32, 32, 3), 1000),
    "mnist": (60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, 10_000, (28, 28, 1), 10),
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
}
"""Name -> examples of training and test, an image's shape, classes."""
FEWER = {
    "gradient_variance": {"num_outer_steps": 2},
    "outer_training_curves": {"num_outer_steps": 2, "num_seeds": 1},
    "held_out_curves": {"num_outer_steps": 2, "num_seeds": 1},
    "out_of_distribution": {"num_outer_steps": 2, "num_seeds": 1},
    "lr_schedules": {"num_lrs_iterations": 2},
    "offline_smd": {"num_meta_steps": (5000, 500, 100)},
}
"""Lengths of loops on the host, on which no program's size depends: seeds go one by one."""


class Program(NamedTuple):
    """A jitted function, and what it was called with: shapes, and static arguments as they are."""

    name: str
    function: Any
    args: tuple
    kwargs: dict[str, Any]
    wide: bool

    def estimate(self) -> int:
        """Bytes of all that lives at once if nothing is fused: more than it takes, mostly."""
        with jax.enable_x64(self.wide):
            return peak(self.function.trace(*self.args, **self.kwargs).jaxpr.jaxpr)

    def compiled(self) -> int:
        """Bytes by the compiler's own figures."""
        with jax.enable_x64(self.wide):
            found = self.function.lower(*self.args, **self.kwargs).compile()
        return memory.program_bytes(found, jax.devices()[:1])


def programs(name: str, out: Path) -> list[Program]:
    """All programs of an experiment at the paper's scale, each once."""
    module = importlib.import_module(EXPERIMENTS[name])
    config = module.Config(scale="paper", **FEWER.get(name, {}))
    found: dict[Any, tuple[Program, Any]] = {}
    with _replaced(found):
        module.run(config, out)
    return [program for program, _ in found.values()]


def peak(jaxpr: Any) -> int:
    """Bytes that live at once, each value from where it is made to where it is last used; what a
    loop carries lies where it lay before.
    """
    last: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last |= dict.fromkeys(_variables(eqn.invars), i)
    kept = {*jaxpr.invars, *jaxpr.constvars, *_variables(jaxpr.outvars)}
    live = highest = sum(map(_size, {*jaxpr.invars, *jaxpr.constvars}))
    for i, eqn in enumerate(jaxpr.eqns):
        inner = [peak(sub) - sum(map(_size, {*sub.invars, *sub.constvars})) for sub in _inner(eqn)]
        dying = [v for v in _variables(eqn.invars) if last[v] == i and v not in kept]
        made = [v for v in eqn.outvars if v in last or v in kept]
        carried = {"scan": eqn.params.get("num_carry"), "while": len(eqn.outvars)}
        new = eqn.outvars[carried.get(eqn.primitive.name, 0) :]
        highest = max(highest, live + sum(map(_size, new)) + max(inner, default=0))
        live += sum(map(_size, made)) - sum(map(_size, dying))
    return highest


def _variables(values: Any) -> set[Any]:
    return {value for value in values if not hasattr(value, "val")}


def _inner(eqn: Any) -> Iterator[Any]:
    """The programs within an operation, as open jaxprs."""
    for value in eqn.params.values():
        for each in value if isinstance(value, list | tuple) else [value]:
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each


def _size(var: Any) -> int:
    aval = var.aval
    if not hasattr(aval, "shape"):
        return 0
    itemsize = 8 if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key) else aval.dtype.itemsize
    return math.prod(aval.shape) * itemsize


class _Jitted:
    """A jitted function that is not run, unless within another one."""

    def __init__(self, real: Any, found: dict[Any, Any]):
        self._real, self._found = real, found
        functools.update_wrapper(self, getattr(real, "__wrapped__", real))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._real(*args, **kwargs)
        shapes = [_shape_of(leaf) for leaf in leaves]
        wide = bool(jax.config.jax_enable_x64)
        key = (self._real, structure, wide, *map(str, shapes))
        if key not in self._found:
            args, kwargs = jax.tree.unflatten(structure, shapes)
            given = self._real.eval_shape(*args, **kwargs)
            name = getattr(self._real, "__name__", "program")
            self._found[key] = Program(name, self._real, args, kwargs, wide), given
        return jax.tree.map(_ones, self._found[key][1])

    def lower(self, *args: Any) -> Any:
        """What is compiled ahead is timed, and takes long enough for that; what the compiler counts
        of it is 1.
        """

        def run(*given: Any) -> Any:
            time.sleep(0.06)
            return self(*given)

        return mock.Mock(compile=lambda: mock.MagicMock(side_effect=run))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _shape_of(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | np.generic | jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return leaf


def _ones(shape: jax.ShapeDtypeStruct) -> Any:
    if jax.dtypes.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), shape.shape)
    return np.broadcast_to(np.ones((), shape.dtype), shape.shape)


def stand_in(
    name: str, image_size: int | None = None, *_, max_per_class: int | None = None, **__: Any
) -> ImageData:
    """A data set of the size of a real one, of which every image is the same one."""
    num_train, num_test, shape, num_classes = SETS[name]
    if image_size is not None:
        shape = (image_size, image_size, shape[-1])
    each = min(num_train // num_classes, max_per_class or num_train)
    parts = [each * 7 // 10, each // 10, each // 5, num_test // num_classes]
    counts = np.repeat(np.asarray(parts, np.int32)[:, None], num_classes, axis=1)
    starts = (counts.cumsum() - counts.ravel()).reshape(counts.shape).astype(np.int32)
    number = int(counts.sum())
    return ImageData(
        np.broadcast_to(np.uint8(1), (number, *shape)),
        np.arange(number, dtype=np.int32) % num_classes,
        starts,
        counts,
        np.zeros(shape[-1], np.float32),
        np.ones(shape[-1], np.float32),
    )


@contextlib.contextmanager
def _replaced(found: dict[Any, Any]) -> Iterator[None]:
    """Within it, programs are noted in `found` and not run."""
    real_jit, real_put = jax.jit, jax.device_put

    def jit(function: Callable | None = None, **options: Any) -> Any:
        if function is None:
            return lambda function: jit(function, **options)
        return _Jitted(real_jit(function, **options), found)

    def put(value: Any, *place: Any, **options: Any) -> Any:
        large = any(
            isinstance(leaf, np.ndarray) and 0 in leaf.strides and leaf.nbytes > 10**6
            for leaf in jax.tree.leaves(value)
        )
        return value if large else real_put(value, *place, **options)

    with contextlib.ExitStack() as stack:
        set_to = lambda target, name, value: stack.enter_context(
            mock.patch.object(target, name, value)
        )
        set_to(jax, "jit", jit)
        set_to(jax, "device_put", put)
        set_to(memory, "available_bytes", lambda devices: DEVICE_BYTES)
        set_to(memory, "host_bytes", lambda: 2**63)
        set_to(side_by_side, "SECONDS_TO_CHECKPOINT", math.inf)
        set_to(content, "data", lambda tree: "")
        set_to(datasets, "tfds_images", stand_in)
        one = jax.devices()[:1]
        set_to(jax, "devices", lambda *_, **__: one)
        set_to(jax, "local_devices", lambda *_, **__: one)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name, module in list(sys.modules.items()):
            if not name.startswith("learned_opt_lab."):
                continue
            for attribute, value in list(vars(module).items()):
                if isinstance(value, type(real_jit(lambda: None))):
                    set_to(module, attribute, _Jitted(value, found))
            for attribute, value in REPLACED.items():
                if hasattr(module, attribute):
                    set_to(module, attribute, value)
        yield


REPLACED = {
    "tfds_images": stand_in,
    "write_result": lambda path, result: None,
    "save": lambda figure, path: None,
    "brentq": lambda function, low, high, **options: function(low),
}
"""Name in modules of the lab -> what stands in for it; ones have no root between them."""


MOST_BYTES = 70 * 10**9
"""Of one device."""


def row_of(name: str, out: Path, most: float = math.inf) -> tuple[str, int]:
    """A row of the table, and the bytes of the experiment's largest program.

    Args:
      name: of the experiment.
      out: its folder.
      most: bytes; a program of a larger estimate is compiled, which takes minutes, and measured.
    """
    found = programs(name, out)
    estimates = [each.estimate() for each in found]
    sizes = [
        each.compiled() if size > most else size
        for each, size in zip(found, estimates, strict=True)
    ]
    largest = int(np.argmax(sizes))
    how = "compiled" if estimates[largest] > most else "estimated"
    label = f"{found[largest].name:<16} of {len(found):>4} programs"
    return f"{name:<30} {label} {sizes[largest] / 1e9:>8.2f} GB, {how}", sizes[largest]


def main(argv: list[str]) -> None:
    """Prints a row an experiment."""
    for name in argv or EXPERIMENTS:
        with tempfile.TemporaryDirectory() as out:
            try:
                print(row_of(name, Path(out), MOST_BYTES)[0], flush=True)
            except Exception:
                print(f"{name} failed", traceback.format_exc(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
