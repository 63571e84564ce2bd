"""Stochastic meta-descent on a decaying schedule
(Wu et al., ICLR 2018, arXiv 1803.02021, section 3.2).

The schedule is `alpha_t = alpha_0 / (1 + t / K)^beta` with momentum .9. Its two hyperparameters
descend the training loss at a horizon, by forward mode over an `UnrolledSystem` whose one step is
the whole training up to there. In the workshop version the momentum descends with them, as log(1 -
mu), and the rate is then the effective one, alpha / (1 - mu).
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from learned_opt import LearnedOptimizer
from learned_opt.hand_designed import Decayed, Pair, encode_pair, inverse_time_schedule
from learned_opt_lab.papers.wu2018.meta_descent.smd_tasks import Training, sgd_steps
from learned_opt_lab.results.resumable import Cells
from outer_train import UnrolledSystem
from outer_train.estimators import forward_mode

MOMENTUM = 0.9
GRADIENT_CLIP = 1.0
RATE_CUT = 0.9
WORSE = 3.0
MEAN_WEIGHT = 0.2
STEPS_OF_A_PIECE = 500_000
"""Of training, in all meta-steps of a piece: minutes on an accelerator."""
LOG_ONE_MINUS = math.log1p(-MOMENTUM)
LOG_ONE_MINUS_RANGE = (math.log(1e-4), 0.0)
"""Of log(1 - mu): momenta from 0 to 0.9999."""
LOG10_RATES = (-3.0, -0.3)
LOG10_EXPONENTS = (-2.0, 2.3)


class Points(NamedTuple):
    """Schedules: log10 of alpha_0 and of beta, `[points]` each."""

    rate: np.ndarray
    exponent: np.ndarray


class Decay(NamedTuple):
    """What is descended: natural logs, float32 scalars.

    Attributes:
      log_rate: of alpha_0; where the momentum is learned, of the alpha_0 that would have the same
        effective rate at momentum `MOMENTUM`.
      log_exponent: of beta.
      log_one_minus_momentum: of 1 - mu; None holds the momentum at `MOMENTUM`.
    """

    log_rate: Array
    log_exponent: Array
    log_one_minus_momentum: Array | None = None


def decaying_sgd(time_constant: float) -> LearnedOptimizer:
    """SGD with momentum whose theta is a `Decay`; K is the time constant, in steps."""
    learned = inverse_time_schedule(
        0.1, MOMENTUM, 1.0, time_constant=time_constant, learn_momentum=True
    )

    def decayed(theta: Decay) -> Decayed:
        if theta.log_one_minus_momentum is not None:
            pair = Pair(theta.log_rate - LOG_ONE_MINUS, theta.log_one_minus_momentum)
            return Decayed(pair, theta.log_exponent)
        return Decayed(encode_pair(jnp.exp(theta.log_rate), MOMENTUM), theta.log_exponent)

    return LearnedOptimizer(
        init=lambda key: Decay(jnp.float32(np.log(0.1)), jnp.float32(0)),
        optimizer=lambda theta: learned.optimizer(decayed(theta)),
    )


def thetas_of(points: Points) -> Decay:
    """Leaves `[points]`."""
    return Decay(*(jnp.asarray(np.log(10) * np.asarray(axis), jnp.float32) for axis in points))


def points_of(theta: Decay) -> Points:
    """Inverse of `thetas_of`; a momentum is left out."""
    return Points(*(np.asarray(leaf, float) / np.log(10) for leaf in theta[:2]))


def ends_of(paths: Mapping[int, Decay]) -> Decay:
    """Where the paths of all horizons end, one after another: leaves `[horizons x starts]`."""
    last = lambda *leaves: np.concatenate([leaf[-1] for leaf in leaves])
    return jax.tree.map(last, *paths.values())


def with_momentum(theta: Decay) -> Decay:
    """The same schedules with the momentum among what is descended, from `MOMENTUM` on."""
    return theta._replace(
        log_one_minus_momentum=jnp.full_like(theta.log_rate, jnp.float32(LOG_ONE_MINUS))
    )


def horizon_problem(
    training: Training, learned: LearnedOptimizer, warm, horizon: int
) -> UnrolledSystem:
    """An inner problem of one step: training from the weights `warm` over the horizon,
    and the log of the loss there.

    The logarithm leaves the minimum where it is, and its gradient has one size whether the loss is
    1 or .001; the loss is that over the training set, so that minibatches bring noise by the
    training alone.
    """

    def step(theta, state, key, data):
        bound = training._replace(data=data)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(horizon))
        params, _ = sgd_steps(
            bound, learned, theta, warm, learned.optimizer(theta).init(warm), keys
        )
        return state, jnp.log(training.full_loss(params))

    return UnrolledSystem(init=lambda theta, key: (), step=step, num_steps=1, data=training.data)


def random_starts(key: Array, num_starts: int) -> Points:
    """Uniform over the surface's range in logs, but for its edges:
    beyond the upper rates training diverges.
    """
    corners = [np.array(axis)[:, None] for axis in (LOG10_RATES, LOG10_EXPONENTS)]
    shares = np.asarray(jax.random.uniform(key, (2, num_starts), minval=0.1, maxval=0.7))
    return Points(
        *(low + (high - low) * share for (low, high), share in zip(corners, shares, strict=True))
    )


def meta_descent(
    training: Training,
    learned: LearnedOptimizer,
    warm,
    horizon: int,
    starts: Decay,
    rates: np.ndarray,
    key: Array,
    cells: Cells,
) -> Decay:
    """SMD from each start: Adam on clipped forward-mode gradients.

    The best schedules of long horizons lie at the edge of stability, and past it no gradient leads
    back: the loss is chaotic, then flat. So where a training ends at more than `WORSE` times the
    (geometric, running) mean loss of those before it, or its gradient is not known, alpha_0 is
    multiplied by `RATE_CUT` instead, and Adam starts afresh. The mean follows bad endings too: a
    rate that was cut too far ends worse as well, and would be cut for ever.

    Args:
      training: the task.
      learned: of `decaying_sgd`.
      warm: weights every training starts from.
      horizon: in steps.
      starts: leaves `[starts]`, of `thetas_of`, or of `with_momentum` to learn that too.
      rates: Adam's, `[meta steps]`, as of `falling_rates`.
      key: of the minibatches.
      cells: of this descent, each of `STEPS_OF_A_PIECE` steps of training.

    Returns:
      The paths, leaves `[meta steps + 1, starts]`.
    """
    descend = partial(_descend, learned, warm, horizon)

    @jax.jit  # once, for all pieces
    def over_starts(data, *args):
        of_start = partial(descend, training._replace(data=data))
        return jax.vmap(of_start, in_axes=(0, 0, 0, None))(*args)

    keys = jax.random.split(key, len(starts.log_rate))

    def piece(carry: list, first: int, size: int) -> tuple[list, Decay]:
        now = rates[first : first + size]
        schedule = jnp.asarray(first + np.arange(len(now))), jnp.asarray(now)
        return over_starts(training.data, carry, starts, keys, schedule)

    size = max(1, STEPS_OF_A_PIECE // horizon)
    carry, paths = [], [jax.tree.map(lambda x: np.asarray(x)[:, None], starts)]
    for first in range(0, len(rates), size):
        carry, path = cells(f"from_{first}", partial(piece, carry, first, size))
        paths.append(path)
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1).T, *paths)


def falling_rates(first: float, num_meta_steps: int) -> np.ndarray:
    """Half a cosine from the first rate towards 0, float32 `[meta steps]`."""
    angles = np.pi * np.arange(num_meta_steps) / num_meta_steps
    return np.float32(first) * (1 + np.cos(angles, dtype=np.float32)) / 2


def _descend(learned, warm, horizon: int, training: Training, carry: list, theta, key, schedule):
    """Meta-steps of one start: what is carried on, as leaves, and theta after each, `[steps]`.

    Args:
      learned: as in `meta_descent`, as are `warm` and `horizon`.
      warm: weights.
      horizon: in steps.
      training: the task.
      carry: leaves of theta, Adam's state and the mean of the losses; none before the first step.
      theta: the start.
      key: of this start.
      schedule: numbers and rates of the steps, `[steps]` each.
    """
    adam = optax.scale_by_adam(b2=0.99)
    estimator = forward_mode(horizon_problem(training, learned, warm, horizon), num_particles=1)
    fresh = (theta, adam.init(theta), jnp.log(training.full_loss(warm)))

    def step(carry, now):
        i, rate = now
        theta, adam_state, mean = carry
        key_init, key_estimate = jax.random.split(jax.random.fold_in(key, i))
        state = estimator.init(theta, key_init)
        estimate, _ = estimator.estimate(theta, state, key_estimate, 1, training.data)
        moved = _adam_step(adam, rate, theta, adam_state, estimate.grad)
        cut = theta._replace(log_rate=theta.log_rate + float(np.log(RATE_CUT)))
        known = jnp.all(jnp.stack([~jnp.isnan(leaf) for leaf in jax.tree.leaves(estimate.grad)]))
        stable = known & (estimate.loss < mean + float(np.log(WORSE)))
        theta, adam_state = jax.tree.map(partial(jnp.where, stable), moved, (cut, adam.init(theta)))
        excess = jnp.where(jnp.isfinite(estimate.loss), estimate.loss - mean, 0.0)
        return (theta, adam_state, mean + MEAN_WEIGHT * excess), theta

    structure = jax.tree.structure(fresh)
    carry = jax.tree.unflatten(structure, carry or jax.tree.leaves(fresh))
    carry, path = lax.scan(step, carry, schedule)
    return jax.tree.leaves(carry), path


def _adam_step(adam, rate, theta: Decay, adam_state, grad: Decay):
    """Theta and Adam's state after a step against the clipped gradient."""
    grad = jax.tree.map(lambda g: jnp.clip(g, -GRADIENT_CLIP, GRADIENT_CLIP), grad)
    with jax.numpy_dtype_promotion("standard"):
        updates, adam_state = adam.update(grad, adam_state)
        theta = jax.tree.map(lambda x, u: x - rate * u, theta, updates)
    if theta.log_one_minus_momentum is not None:
        kept = jnp.clip(theta.log_one_minus_momentum, *LOG_ONE_MINUS_RANGE)
        theta = theta._replace(log_one_minus_momentum=kept)
    return theta, adam_state
