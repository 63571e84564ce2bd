"""Checks of what `hd`, `rtho` and `marthe` are called with."""

from collections.abc import Mapping
from typing import Any

import jax

from learned_opt.ranges import require, require_non_negative

ADAPTIVE = "adaptive"


def check_arguments(inner: Any, rates: Mapping[str, Any], mu: Any) -> None:
    """Checks concrete values only: a traced one is the caller's.

    Args:
      inner: the function of a rate.
      rates: name -> what must be a number of at least 0.
      mu: the discount.

    Raises:
      ValueError: naming the first that is out of its range.
    """
    if not callable(inner):
        raise ValueError(
            f"inner must be a function, learning_rate -> optax transformation, got {inner!r}"
        )
    for name, value in rates.items():
        if not isinstance(value, jax.core.Tracer):
            require_non_negative(name, value, "be a finite number >= 0")
    if isinstance(mu, str) and mu != ADAPTIVE:
        raise ValueError(f'mu must be "{ADAPTIVE}" or a number in [0, 1], got {mu!r}')
    if not isinstance(mu, str | jax.core.Tracer):
        require("mu", mu, "be a number in [0, 1]", 0.0, 1.0)
