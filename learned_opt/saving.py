"""Theta on disk: `NAME.npz` with the arrays and `NAME.json` with what they belong to.

Never a pickle.

Both files may be anyone's, so nothing that they hold or name is run. The JSON names an optimizer of
this library; a name of other code is refused unless the caller passes that code, or says that he
trusts the file. Names, types and shapes are compared with those of that optimizer before any
weights are read.
"""

import dataclasses
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from numpy.typing import NDArray

from learned_opt.base import LearnedOptimizer, Theta, check_choices
from learned_opt.by_kind import with_others
from learned_opt.catalog import (
    Factory,
    FromFile,
    NotTrusted,
    check_arguments,
    is_own,
    make_optimizer,
    near_names,
)
from learned_opt.choice import Only, Others
from learned_opt.disk import files, hub, npz, reading, theta_file
from learned_opt.per_parameter.adam_start import AdamStart
from learned_opt.rate_and_decay import with_hooks
from learned_opt.trees.stacked import Stacked

DEFAULT_PRETRAINED = "general"
"""What `load()` gives without a name."""
PRETRAINED_DIR = Path(__file__).parent / "pretrained"


def save(
    path: str | os.PathLike,
    optimizer_name: str,
    kwargs: dict[str, Any],
    theta: Theta,
    *,
    factory: Factory | None = None,
) -> Path:
    """Writes theta and what is needed to use it again.

    Both files are on the disk before the first is moved to its place, so a reader never sees half
    of one, and knows by a checksum whether they belong together. What `load` would refuse is not
    written.

    Args:
      path: `NAME.npz`, `NAME` (then `.npz` is added), or an existing directory (then `theta.npz` in
        it).
      optimizer_name: in `learned_opt.catalog.OPTIMIZERS`, or `"module:name"`; to load the latter
        takes the factory or `trust=True`.
      kwargs: of the factory; must come back from JSON as they are, tuples as lists and an
        `AdamStart` as a dict.
      theta: of the optimizer that these make.
      factory: what a `"module:name"` means, which is then not imported.

    Returns:
      The path of the `.npz` file.

    Raises:
      ValueError: if theta is not of this optimizer, not finite, or of a type other than float16,
        float32 and float64, or if kwargs do not come back from JSON.
      OSError: if the files cannot be written; those that were there before still are.
    """
    what = f"{optimizer_name} to be saved"
    if not is_own(optimizer_name):
        kwargs = {
            k: dataclasses.asdict(v) if isinstance(v, AdamStart) else v for k, v in kwargs.items()
        }
    kwargs = theta_file.plain_kwargs(optimizer_name, kwargs)
    shapes = _shapes(what, _optimizer(what, optimizer_name, kwargs, factory)[1])
    arrays = _named_arrays(what, theta)
    theta_file.check_layouts(
        what, shapes, {name: npz.Layout(x.dtype, x.shape, False) for name, x in arrays.items()}
    )
    theta_file.check_finite(what, arrays)
    content, header = theta_file.pack(optimizer_name, kwargs, arrays)
    # What reading refuses is not written.
    theta_file.check_header(Path(what), reading.parse_json(header, what))
    theta_file.read_arrays(io.BytesIO(content), what, shapes)
    path = Path(path)
    if path.is_dir():
        path = path / "theta.npz"
    elif path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_together(
        {
            path: lambda file: file.write(content),
            path.with_suffix(".json"): lambda file: file.write(header),
        }
    )
    return path


def load_theta(
    name_or_path: str | os.PathLike, *, factory: Factory | None = None, trust: bool = False
) -> tuple[LearnedOptimizer, Theta]:
    """Reads what `save` wrote, to go on training or to look inside.

    Runs nothing that the files hold or name.

    Args:
      name_or_path: a shipped optimizer's name, the path of the `.npz`, of it without its ending,
        or of a run directory that holds `theta.npz`, or `"hf://org/name"` on the Hugging Face hub,
        also `"hf://org/name@REVISION"` and `"hf://org/name/FILE"`, with the extra `hub`.
      factory: your own code, for files that name an optimizer `"module:name"`: it is called with
        their arguments, and that module is not imported.
      trust: import the module that the files name, and call its function with their arguments. This
        runs code that their author chose. The function must take these arguments and be made to
        return a `LearnedOptimizer` (`learned_opt.catalog.check_gives`).

    Returns:
      The optimizer and its theta.

    Raises:
      FileNotFoundError: if there is no such name or path.
      ValueError: if the files are damaged, a pickle, hold the theta of another optimizer or one
        that is not finite, or name code and neither `factory` nor `trust` is given.
      OSError: if they cannot be read.
    """
    path = find(name_or_path)
    with reading.open_regular(path) as file:
        header, same_bytes = theta_file.read_header(path, file)
        name, unusable = header["optimizer"], f"{path} cannot be used"
        optimizer, example = _optimizer(
            unusable, name if trust else FromFile(name), header["kwargs"], factory
        )
        arrays = theta_file.read_arrays(file, str(path), _shapes(unusable, example))
    theta_file.check_belongs(path, header, arrays, same_bytes)
    keys, treedef = jax.tree.flatten_with_path(example)
    # Constants also where `load` is called inside a traced function,
    # such as one that makes a sharded train state.
    with np.errstate(over="ignore"), jax.ensure_compile_time_eval():
        leaves = {_name(key): jnp.asarray(arrays[_name(key)]) for key, _ in keys}
    # As they are here: a float64 may be too large for float32.
    theta_file.check_finite(str(path), leaves)
    return optimizer, jax.tree.unflatten(treedef, leaves.values())


def load(
    name_or_path: str | os.PathLike | None = None,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    weight_decay: float = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    only: Only | None = None,
    others: Others | None = None,
    stacked: Stacked | None = None,
    state_dtype: DTypeLike | None = None,
    num_steps: int | None = None,
    factory: Factory | None = None,
    trust: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """A learned optimizer as an Optax transformation;
    its updates are to be added to the parameters.

    Args:
      name_or_path: as in `load_theta`; None is the shipped default.
      learning_rate: factor of the learned step, or an Optax schedule of it, such as
        `optax.cosine_decay_schedule(1.0, num_steps)`.
      weight_decay: share of a parameter taken away a step, times `learning_rate`; decoupled, as in
        AdamW.
      mask: which parameters decay, as in `optax.add_decayed_weights`.
      only: what is learned: kinds of `learned_opt.tensor_kinds`, `"matrix"` or several, or a mask
        as in `optax.masked`, such as `learned_opt.matrices`; `learned_opt.by_kind` has all forms.
        Rate, decay and mask are of these parameters only.
      others: the Optax transformation of the rest, such as `optax.adamw(1e-3)`, or a dict, kind ->
        transformation.
      stacked: which parameters hold layers along their first axis, as `scan` over layers makes
        them: each layer is then updated as a parameter of its own. The name of a key on their path,
        or several; a tree of booleans, or of numbers of leading axes; or a function that gives one.
      state_dtype: `"bfloat16"` keeps running averages in half the memory, rounded at random so that
        they are right in the mean.
      num_steps: updates of the whole training, for optimizers whose rate falls to 0 at its end.
      factory: as in `load_theta`.
      trust: as in `load_theta`; without it nothing that the files hold or name is run.

    Raises:
      FileNotFoundError: if there is no such name or path.
      ValueError: as in `load_theta`; for a rate or decay that is negative or not finite; for
        `stacked`, `state_dtype` or `num_steps` of an optimizer without them; for one of `only` and
        `others` without the other, or what they do not mean.
      OSError: if the files cannot be read.

    Example:
      >>> optimizer = load(only="matrix", others=optax.adamw(1e-3))
    """
    name_or_path = DEFAULT_PRETRAINED if name_or_path is None else name_or_path
    optimizer, theta = load_theta(name_or_path, factory=factory, trust=trust)
    choices = {"stacked": stacked, "state_dtype": state_dtype, "num_steps": num_steps}
    chosen = {name: value for name, value in choices.items() if value is not None}
    check_choices(f"the optimizer of {name_or_path}", optimizer, chosen)
    learned = with_hooks(optimizer.optimizer(theta, **chosen), learning_rate, weight_decay, mask)
    return with_others(learned, only, others)


def optimizer_name(name_or_path: str | os.PathLike) -> str:
    """The name of the optimizer of a saved theta, which is not looked up;
    raises as `load_theta`.
    """
    path = find(name_or_path)
    with reading.open_regular(path) as file:
        return FromFile(theta_file.read_header(path, file)[0]["optimizer"])


def pretrained_names() -> list[str]:
    """Names of the shipped optimizers."""
    return sorted(path.stem for path in PRETRAINED_DIR.glob("*.npz"))


def _optimizer(
    what: str, name: str, kwargs: dict[str, Any], factory: Factory | None
) -> tuple[LearnedOptimizer, Theta]:
    """The optimizer and the shapes of its theta, which takes no memory, however large it is."""
    if not is_own(name):
        check_arguments(what, kwargs)
    key = jax.random.key(0)  # starts JAX: where that fails, it is not the file's fault
    try:
        optimizer = make_optimizer(name, kwargs, factory)
        return optimizer, jax.eval_shape(optimizer.init, key)
    except NotTrusted as error:
        raise NotTrusted(f"{what}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    except Exception as error:  # whatever comes of arguments that nobody meant
        raise ValueError(f"{what}: {type(error).__name__}: {error!s:.200}") from error


def _shapes(what: str, example: Theta) -> dict[str, tuple[int, ...]]:
    named = [(_name(keys), leaf.shape) for keys, leaf in jax.tree.leaves_with_path(example)]
    shapes = dict(named)
    if len(shapes) < len(named):
        raise ValueError(
            f"{what}: two leaves of theta have the same name; they are {', '.join(sorted(shapes))}"
        )
    if (
        sum(int(np.prod(shape, dtype=object)) for shape in shapes.values())
        > theta_file.MAX_ELEMENTS
    ):
        raise ValueError(
            f"{what}: its theta would have more than {theta_file.MAX_ELEMENTS} numbers"
        )
    return shapes


def _name(keys: tuple) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _named_arrays(what: str, theta: Theta) -> dict[str, NDArray]:
    named: dict[str, NDArray] = {}
    for keys, leaf in jax.tree.leaves_with_path(theta):
        try:
            named[_name(keys)] = np.asarray(leaf)
        except TypeError as error:  # a PRNG key, for example
            raise ValueError(f"{what}: {_name(keys)} is no array: {error}") from error
    return named


def find(name_or_path: str | os.PathLike) -> Path:
    """The `.npz` file meant by a name or a path; an existing path goes before a name."""
    text, path = os.fspath(name_or_path), Path(name_or_path)
    if hub.is_address(text):
        return hub.fetch(text)
    candidates = [
        path,
        path / "theta.npz",
        path.with_name(path.name + ".npz") if path.name else path,
    ]
    if os.sep not in text:
        candidates.append(PRETRAINED_DIR / f"{text}.npz")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is no regular file")
    if not pretrained_names():
        raise FileNotFoundError(
            f"no learned optimizer {text!r}: there is no such path, and none ships with this "
            "version"
        )
    raise FileNotFoundError(
        f"no learned optimizer {text!r}, neither path nor name; "
        f"{near_names(text, pretrained_names())}"
    )
