"""The learned optimizer of a config, and the theta that it starts from."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax

import learned_opt
from configs import base
from learned_opt import LearnedOptimizer, catalog
from learned_opt.disk import theta_file
from learned_opt_lab.runs.builders import builder_of, fields_of
from learned_opt_lab.runs.user_path import add_to_path, run_users
from outer_train import checks


def build_optimizer(config: base.Optimizer) -> tuple[LearnedOptimizer, str, dict[str, Any]]:
    """The learned optimizer with the name and arguments under which it is saved."""
    if isinstance(config, base.NamedOptimizer):
        name, kwargs, factory = config.name, dict(config.kwargs), None
    else:
        name, factory = base.name_of(type(config)), builder_of(type(config))
        arguments = {k: _argument(v) for k, v in fields_of(config).items()}
        kwargs = {k: v for k, v in arguments.items() if v is not None}
    if catalog.is_own(name) and not isinstance(name, catalog.FromFile):
        add_to_path(Path.cwd())
    optimizer = catalog.make_optimizer(name, kwargs, factory)
    # Takes no memory, however large theta is.
    trace = lambda: jax.eval_shape(optimizer.init, jax.random.key(0))
    shapes = run_users(trace, f"{name} makes no theta") if catalog.is_own(name) else trace()
    if (
        size := sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    ) > theta_file.MAX_ELEMENTS:
        raise ValueError(
            f"{name} with {kwargs}: theta would have {size} numbers, allowed are "
            f"{theta_file.MAX_ELEMENTS}"
        )
    return optimizer, name, kwargs


def initial_theta(
    path: str | None,
    optimizer: LearnedOptimizer,
    untrained: Any,
    *,
    name: str = "",
    trust: bool = False,
) -> Any:
    """The theta to start from: a saved one if a path or name is given.

    Args:
      path: as in `learned_opt.load_theta`.
      optimizer: that it must be of.
      untrained: a theta of this optimizer.
      name: of this optimizer. A file that names the same code of a user's is judged by `optimizer`;
        nothing is imported for it.
      trust: as in `learned_opt.load_theta`, for a file that names other code; modules of the
        working directory count.

    Raises:
      ValueError: it is of another optimizer, or does not load.
    """
    if path is None:
        return untrained
    if trust:
        add_to_path(Path.cwd())
    is_same_code = catalog.is_own(name) and learned_opt.saving.optimizer_name(path) == name
    factory = (lambda **kwargs: optimizer) if is_same_code else None
    theta = jax.device_get(learned_opt.load_theta(path, factory=factory, trust=trust)[1])
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (theta, untrained)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{path} holds the theta of another optimizer: shapes {shapes[0]}, needed are "
            f"{shapes[1]}"
        )
    try:
        checks.check_theta(theta)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return theta


def _argument(value: Any) -> Any:
    """A field as a factory takes it: a group of fields is a dict of them,
    or None where none of them is given.
    """
    if not dataclasses.is_dataclass(value):
        return value
    return None if value == type(value)() else fields_of(value)
