"""Checks of arguments: what a factory cannot use is refused when it is called,
not found in the numbers later.
"""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LARGEST_COUNT = 2**31 - 1
"""Steps, particles and the like are int32 on the devices."""
SMALLEST_FLOAT, LARGEST_FLOAT = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Of float32: numbers beyond them are zero or infinite on the devices."""


def check_count(smallest: int = 1, **values: int | None) -> None:
    """Refuses what is no whole number from `smallest` to `LARGEST_COUNT`; None passes.

    Raises:
      ValueError: naming the argument.
    """
    for name, value in values.items():
        if value is None:
            continue
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value > LARGEST_COUNT:
            raise ValueError(
                f"{name} must be a whole number of at most {LARGEST_COUNT}, got {value}"
            )
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value}")


def check_positive(**values: float | None) -> None:
    """Refuses values that are not above zero and finite as float32 either; None passes.

    Raises:
      ValueError: naming the argument.
    """
    for name, value in values.items():
        if value is not None and not SMALLEST_FLOAT <= _number(name, value) <= LARGEST_FLOAT:
            raise ValueError(f"{name} must be above 0 and finite, in float32 too, got {value}")


def check_within(low: float, high: float, *, below: bool = False, **values: float) -> None:
    """Refuses values outside `[low, high]`, or with `below` outside `[low, high)`, as float32 too.

    Raises:
      ValueError: naming the argument.
    """
    for name, value in values.items():
        # A decay just below 1 is 1 in float32, where it never forgets.
        number = _number(name, value)
        rounded = float(np.float32(number)) if abs(number) <= LARGEST_FLOAT else number
        if not (low <= number <= high and (rounded < high or not below)):
            end = ")" if below else "]"
            raise ValueError(
                f"{name} must lie in [{low:g}, {high:g}{end}, in float32 too, got {value}"
            )


def check_std(std: float) -> None:
    """Refuses a standard deviation of perturbations that float32 cannot hold,
    or whose square it cannot.

    Raises:
      ValueError: saying so.
    """
    if not SMALLEST_FLOAT**0.5 <= _number("std", std) <= LARGEST_FLOAT**0.5:
        raise ValueError(
            f"std must be above 0 and finite, and so must its square be in float32, got {std}"
        )


def check_theta(theta: Any) -> None:
    """Refuses outer parameters that cannot be trained;
    traced ones are looked at for their shapes and types alone.

    Raises:
      ValueError: there are none, one is no floating-point array, or one is not finite; it names the
        leaf.
    """
    leaves = jax.tree_util.tree_flatten_with_path(theta)[0]
    if not sum(np.size(leaf) for _, leaf in leaves):
        raise ValueError("theta must hold at least one outer parameter, got none")
    for path, leaf in leaves:
        dtype = jnp.result_type(leaf)
        where = f"theta{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{where} must be of a floating-point type, got {dtype}")
        if not isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct):
            check_finite(where, leaf)


def check_finite(where: str, leaf: Any) -> None:
    """Raises `ValueError` if an array, `where` by name, holds a number that is not finite."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = leaf.addressable_data(0)  # replicated over processes: this one's copy
    count = np.size(leaf) - np.count_nonzero(np.isfinite(np.asarray(leaf).astype(np.float64)))
    if count:
        raise ValueError(
            f"{where} must be finite, got {count} of {np.size(leaf)} numbers that are nan or "
            "infinite"
        )


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
