"""What is controlled: the contract of an environment in pure JAX."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from tasks.base import Key


class Environment(NamedTuple):
    """A system with a few actions, whose reward lies within 0..1 a step.

    Attributes:
      reset: `key -> state`, float32 `[size]`.
      observe: `state -> observation`, float32 `[features]`, what the policy sees.
      step: `(state, action) -> (state, reward, alive)`: one step of one system; the episode is over
        where `alive` is false.
      num_actions: actions are 0..num_actions - 1.
    """

    reset: Callable[[Key], Array]
    observe: Callable[[Array], Array]
    step: Callable[[Array, Array], tuple[Array, Array, Array]]
    num_actions: int
