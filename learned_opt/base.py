"""How it is optimized: the contract `LearnedOptimizer`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax import Array

Key = Array
"""A typed PRNG key, as `jax.random.key` makes it."""
Theta = Any


class LearnedOptimizer(NamedTuple):
    """An optimizer with parameters `theta` of its own.

    Attributes:
      init: `key -> theta`, fresh outer parameters.
      optimizer: `theta -> optax.GradientTransformationExtraArgs`; differentiable in theta, so theta may be traced.
    """

    init: Callable[[Key], Theta]
    optimizer: Callable[[Theta], optax.GradientTransformationExtraArgs]
