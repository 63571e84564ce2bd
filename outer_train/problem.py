"""The contract of an unrolled system, and the one built from a task family and a learned optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Key = Array
Theta = Any
State = Any
Data = Any


class InnerProblem(NamedTuple):
    """Any unrolled system with outer parameters theta; not only optimizers.

    Attributes:
      init: `(theta, key) -> state`, the start of an episode.
      step: `(theta, state, key, data) -> (state, loss)`; the loss is the outer loss of this step, a scalar.
      num_steps: length T of an episode.
      data: arrays handed to `step`; an argument of jitted programs, never closed over.
      reduction: how an episode's step losses make its outer loss. `mean` and `final` are sums of step losses, which
        every estimator takes; others are refused with a `ValueError` by the estimators that need a sum.
    """

    init: Callable[[Theta, Key], State]
    step: Callable[[Theta, State, Key, Data], tuple[State, Array]]
    num_steps: int
    data: Data = ()
    reduction: str = "mean"
