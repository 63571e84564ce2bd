"""How it is optimized: the contract `LearnedOptimizer`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax import Array

Theta = Any
"""Outer parameters: a tree of floating-point arrays."""


class LearnedOptimizer(NamedTuple):
    """An optimizer with parameters `theta` of its own.

    Attributes:
      init: `key -> theta`, fresh outer parameters; the key is a typed one, as `jax.random.key`
        makes it.
      optimizer: `theta -> optax.GradientTransformationExtraArgs`; differentiable in theta, so theta
        may be traced.
      packed: the same with a state in a layout of its own, which is faster for many small models
        side by side; outer- training and evaluation use it where there is one. None stands for
        `optimizer`.
    """

    init: Callable[[Array], Theta]
    optimizer: Callable[[Theta], optax.GradientTransformationExtraArgs]
    packed: Callable[[Theta], optax.GradientTransformationExtraArgs] | None = None

    @property
    def fastest(self) -> Callable[[Theta], optax.GradientTransformationExtraArgs]:
        """`packed` if there is one, else `optimizer`."""
        return self.packed or self.optimizer
