"""Theta on disk: `NAME.npz` with the arrays and `NAME.json` with what they belong to. Never a pickle."""

import importlib.metadata
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.hooks import with_hooks
from learned_opt.registry import make_optimizer, near_names

FORMAT_VERSION = 1
DEFAULT_PRETRAINED = "general"
"""What `load()` gives without a name."""
PRETRAINED_DIR = Path(__file__).parent / "pretrained"


def save(path: str | os.PathLike, optimizer_name: str, kwargs: dict[str, Any], theta: Theta) -> Path:
    """Writes theta and what is needed to use it again.

    Each file is written beside its place and then moved there, so a reader never sees half of one.

    Args:
      path: `NAME.npz`, `NAME` (then `.npz` is added), or an existing directory (then `theta.npz` in it).
      optimizer_name: in `learned_opt.registry.OPTIMIZERS`, or `"module:name"`.
      kwargs: of the factory; must go through JSON.
      theta: of the optimizer that these make.

    Returns:
      The path of the `.npz` file.

    Raises:
      ValueError: if theta is not of this optimizer, or kwargs do not go through JSON.
    """
    optimizer = make_optimizer(optimizer_name, kwargs)
    arrays = _named_arrays(theta)
    _check_arrays(f"{optimizer_name} to be saved", optimizer, {name: value.shape for name, value in arrays.items()})
    header = {
        "format_version": FORMAT_VERSION,
        "optimizer": optimizer_name,
        "kwargs": kwargs,
        "shapes": {name: list(value.shape) for name, value in arrays.items()},
        "dtypes": {name: value.dtype.name for name, value in arrays.items()},
        "library_version": _library_version(),
    }
    try:
        text = json.dumps(header, indent=2) + "\n"
    except TypeError as error:
        raise ValueError(f"the arguments of optimizer {optimizer_name!r} cannot be saved as JSON: {error}") from error
    path = Path(path)
    path = (
        path / "theta.npz" if path.is_dir() else path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_atomically(path, lambda file: np.savez(file, **arrays))
    _write_atomically(path.with_suffix(".json"), lambda file: file.write(text.encode()))
    return path


def load_theta(name_or_path: str | os.PathLike) -> tuple[LearnedOptimizer, Theta]:
    """Reads what `save` wrote, to go on training or to look inside.

    Args:
      name_or_path: a shipped optimizer's name, or the path of the `.npz`, of it without its ending, or of a run
        directory that holds `theta.npz`.

    Returns:
      The optimizer and its theta.

    Raises:
      FileNotFoundError: if there is no such name or path.
      ValueError: if the files are damaged, a pickle, or hold the theta of another optimizer.
    """
    path = _find(name_or_path)
    header = _read_header(path.with_suffix(".json"))
    arrays = _read_arrays(path)
    try:
        optimizer = make_optimizer(header["optimizer"], header["kwargs"])
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    _check_arrays(str(path), optimizer, {name: value.shape for name, value in arrays.items()})
    if header["shapes"] != {name: list(value.shape) for name, value in arrays.items()}:
        raise ValueError(f"{path} and its JSON do not belong together: the shapes differ")
    expected, treedef = jax.tree.flatten_with_path(jax.eval_shape(optimizer.init, jax.random.key(0)))
    return optimizer, jax.tree.unflatten(treedef, [jnp.asarray(arrays[_name(keys)]) for keys, _ in expected])


def load(
    name_or_path: str | os.PathLike | None = None,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    weight_decay: float = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A learned optimizer as an Optax transformation; its updates are to be added to the parameters.

    Args:
      name_or_path: as in `load_theta`; None is the shipped default.
      learning_rate: factor of the learned step, or an Optax schedule of it, such as
        `optax.cosine_decay_schedule(1.0, num_steps)`.
      weight_decay: share of a parameter taken away a step, times `learning_rate`; decoupled, as in AdamW.
      mask: which parameters decay, as in `optax.add_decayed_weights`.

    Raises:
      FileNotFoundError: if there is no such name or path.
      ValueError: if the files are damaged, a pickle, or hold the theta of another optimizer; for a rate or decay that
        is negative or not finite.
    """
    optimizer, theta = load_theta(DEFAULT_PRETRAINED if name_or_path is None else name_or_path)
    return with_hooks(optimizer.optimizer(theta), learning_rate, weight_decay, mask)


def pretrained_names() -> list[str]:
    """Names of the shipped optimizers."""
    return sorted(path.stem for path in PRETRAINED_DIR.glob("*.npz"))


def _library_version() -> str:
    try:
        return importlib.metadata.version("learned-opt")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _name(keys: tuple) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _named_arrays(theta: Theta) -> dict[str, np.ndarray]:
    return {_name(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(theta)}


def _check_arrays(what: str, optimizer: LearnedOptimizer, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises `ValueError` unless names and shapes are those of the optimizer's theta."""
    expected = jax.eval_shape(optimizer.init, jax.random.key(0))
    expected = {_name(keys): leaf.shape for keys, leaf in jax.tree.leaves_with_path(expected)}
    if shapes.keys() != expected.keys():
        raise ValueError(
            f"{what}: theta is of another optimizer; it holds {', '.join(sorted(shapes)) or 'nothing'}, "
            f"needed are {', '.join(sorted(expected))}"
        )
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise ValueError(f"{what}: theta has another shape; {name} is {shape}, needed is {expected[name]}")


def _write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _find(name_or_path: str | os.PathLike) -> Path:
    """The `.npz` file meant by a name or a path; an existing path goes before a name."""
    text, path = os.fspath(name_or_path), Path(name_or_path)
    candidates = [path, path / "theta.npz", path.with_name(path.name + ".npz") if path.name else path]
    if os.sep not in text:
        candidates.append(PRETRAINED_DIR / f"{text}.npz")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if not pretrained_names():
        raise FileNotFoundError(
            f"no learned optimizer {text!r}: there is no such path, and none ships with this version"
        )
    raise FileNotFoundError(
        f"no learned optimizer {text!r}, neither path nor name; {near_names(text, pretrained_names())}"
    )


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; it says which optimizer the weights beside it belong to")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: no valid JSON ({error})") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: got format version {version!r}, this library reads {FORMAT_VERSION}")
    if missing := [key for key in ("optimizer", "kwargs", "shapes") if key not in header]:
        raise ValueError(f"{path} is damaged: {', '.join(missing)} missing")
    return header


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.read_bytes()[:1] == b"\x80":
        raise ValueError(f"{path} is a pickle, which is never read; weights are .npz files")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file, or one that was cut short")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or holds pickled objects, which are never read: {error}") from error
    if bad := [name for name, value in arrays.items() if not np.issubdtype(value.dtype, np.floating)]:
        raise ValueError(f"{path}: {bad[0]} is of type {arrays[bad[0]].dtype}, theta is of floating types")
    return arrays
