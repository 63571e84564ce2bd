"""The contract of a gradient estimator for unrolled systems, and what it reports."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Key = Array
Theta = Any
EstimatorState = Any
Data = Any


class Info(NamedTuple):
    """What is only looked at: scalars, means over outer parameters where they belong to one parameter each.

    Attributes:
      num_non_finite: particles (pairs) whose gradient or loss was not finite in this truncation.
      num_resets: particles that start a new episode after this truncation.
      num_live_steps: inner steps that counted, summed over particles, both sides of a pair.
      num_steps: the truncation length asked for.
      variance: estimator name -> mean over outer parameters of the variance of one sample's gradient.
      weight: estimator name -> mean share in the merge; `{}` where nothing is merged.
      diagnosis: further scalars of the estimator at hand.
    """

    num_non_finite: Array
    num_resets: Array
    num_live_steps: Array
    num_steps: Array
    variance: dict[str, Array]
    weight: dict[str, Array]
    diagnosis: dict[str, Array]


class Estimate(NamedTuple):
    """One estimate of the outer gradient.

    Attributes:
      grad: shaped as theta; of the mean loss over this truncation's steps (episode steps only, over all particles).
      loss: that mean loss, unperturbed or averaged over both sides of the perturbations.
      info: see `Info`.
    """

    grad: Theta
    loss: Array
    info: Info


class GradientEstimator(NamedTuple):
    """A pair of pure functions, as in Optax and BlackJAX.

    Attributes:
      init: `(theta, key) -> state`; every leaf of the state leads with the particle axis, or stands under a field
        named `shared`.
      estimate: `(theta, state, key, num_steps, data=()) -> (Estimate, state)`; `num_steps` is one scalar for all
        particles and may be traced: one compilation serves every length up to the estimator's `max_num_steps`.
        With `data=()` the problem's own data is used (it then becomes a constant of a jitted caller).
    """

    init: Callable[[Theta, Key], EstimatorState]
    estimate: Callable[..., tuple[Estimate, EstimatorState]]
