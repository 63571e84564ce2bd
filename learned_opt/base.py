"""How it is optimized: the contract `LearnedOptimizer`."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
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
        may be traced. Those that can take the keywords `stacked`, `state_dtype` and `num_steps` of
        `learned_opt.load` too.
      packed: the same with a state in a layout of its own, which is faster for many small models
        side by side; outer-training and evaluation use it where there is one. None stands for
        `optimizer`.
    """

    init: Callable[[Array], Theta]
    optimizer: Callable[..., optax.GradientTransformationExtraArgs]
    packed: Callable[[Theta], optax.GradientTransformationExtraArgs] | None = None

    @property
    def fastest(self) -> Callable[[Theta], optax.GradientTransformationExtraArgs]:
        """`packed` if there is one, else `optimizer`."""
        return self.packed or self.optimizer

    @property
    def takes_num_steps(self) -> bool:
        """Whether it can be told how long the training is."""
        return "num_steps" in inspect.signature(self.fastest).parameters

    def within(
        self, num_steps: int | Array
    ) -> Callable[[Theta], optax.GradientTransformationExtraArgs]:
        """`fastest` for a training of so many steps, which those that take `num_steps` are told;
        infinity tells them nothing.
        """
        return partial(self.fastest, num_steps=num_steps) if self.takes_num_steps else self.fastest


def check_choices(what: str, optimizer: LearnedOptimizer, choices: Mapping[str, Any]) -> None:
    """Raises `ValueError` for keywords that `optimizer.optimizer` does not take."""
    takes = inspect.signature(optimizer.optimizer).parameters
    for name, value in choices.items():
        if name not in takes:
            raise ValueError(f"{what} has no choice of {name}, got {value!r}")
