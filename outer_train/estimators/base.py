"""The contract of a gradient estimator for unrolled systems, and what it reports."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from learned_opt import Theta
from tasks import Key

EstimatorState = Any


class Info(NamedTuple):
    """What is only looked at: scalars,
    means over outer parameters where they belong to one parameter each.

    What is not defined is nan: a variance of fewer than two samples, a share in a merge of nothing.

    Attributes:
      num_non_finite: particles (pairs) whose gradient or loss was not finite in this truncation.
      num_resets: particles that start a new episode after this truncation.
      num_live_steps: inner steps that counted, summed over particles, both sides of a pair; int32,
        or float where there may be more than `outer_train.particles.counts.LARGEST_EXACT`.
      num_steps: the truncation length asked for.
      variance: estimator name -> mean over outer parameters of the variance of one sample's
        gradient.
      weight: estimator name -> mean share in the merge; `{}` where nothing is merged.
      diagnosis: further scalars of the estimator at hand.
      num_unknown: outer parameters of which no sample has a finite gradient. If it is all of them,
        nothing is known and no step should be taken. None counts as zero.
    """

    num_non_finite: Array
    num_resets: Array
    num_live_steps: Array
    num_steps: Array
    variance: dict[str, Array]
    weight: dict[str, Array]
    diagnosis: dict[str, Array]
    num_unknown: Array | None = None


class Estimate(NamedTuple):
    """One estimate of the outer gradient.

    Attributes:
      grad: shaped as theta; of the mean loss over this truncation's steps (episode steps only, over
        all particles). Zero, which moves nothing, for the outer parameters that `Info.num_unknown`
        counts.
      loss: that mean loss, unperturbed or averaged over both sides of the perturbations, over the
        particles of which it is finite; nan where there is none.
      info: see `Info`.
    """

    grad: Theta
    loss: Array
    info: Info


class GradientEstimator(NamedTuple):
    """A pair of pure functions, as in Optax and BlackJAX.

    Attributes:
      init: `(theta, key) -> state`; every leaf of the state leads with the particle axis, or stands
        under a field named `shared`.
      estimate: `(theta, state, key, num_steps, data=()) -> (Estimate, state)`; `num_steps` is one
        scalar for all particles and may be traced: one compilation serves every length up to the
        estimator's `max_num_steps`. With `data=()` the problem's own data is used (it then becomes
        a constant of a jitted caller).
    """

    init: Callable[[Theta, Key], EstimatorState]
    estimate: Callable[..., tuple[Estimate, EstimatorState]]
