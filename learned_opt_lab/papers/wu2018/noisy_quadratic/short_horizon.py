"""Greedy, fixed and optimized schedules
on the noisy quadratic (Wu et al., ICLR 2018, arXiv 1803.02021, section 2).

Each is found from the exact moments of `tasks.analytic.noisy_quadratic`, so losses are
expectations, not estimates.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jaxtyping import Float

from tasks.analytic import (
    Moments,
    NoisyQuadratic,
    chebyshev_curvatures,
    expected_loss,
    expected_losses,
    initial_moments,
    moments_step,
)


class Schedule(NamedTuple):
    """Hyperparameters of each step and the expected loss before the first and after each.

    Attributes:
      learning_rates: `[T]`.
      momenta: `[T]`.
      losses: `[T + 1]`, without the noise floor.
    """

    learning_rates: Float[Array, " T"]
    momenta: Float[Array, " T"]
    losses: Float[Array, " T+1"]


LOWEST_CURVATURE, HIGHEST_CURVATURE = 0.059, 118.0
"""Ends of the interval whose Chebyshev zeros are the curvatures of `paper_problem`."""


def paper_problem(stochastic: bool = True, dim: int = 1000) -> NoisyQuadratic:
    """The quadratic behind the paper's 63.86 / 42.19 / 4.25.

    The paper prints neither the spectrum's ends nor the start. Condition number 2000 on [0.059,
    118], a start of ones and noise variances 1/h were fitted to its three losses.
    """
    curvatures = chebyshev_curvatures(dim, LOWEST_CURVATURE, HIGHEST_CURVATURE)
    zeros = jnp.zeros_like(curvatures)
    noise = 1 / curvatures if stochastic else zeros
    return NoisyQuadratic(curvatures, noise, mean=jnp.ones_like(curvatures), variance=zeros)


def greedy_schedule(problem: NoisyQuadratic, num_steps: int, momentum: bool = True) -> Schedule:
    """The pair that minimizes the next expected loss, at every step (Wu et al., Theorem 2).

    Args:
      problem: the noisy quadratic.
      num_steps: T.
      momentum: False holds the momentum at 0 and chooses the learning rate alone (Theorem 3 in many
        dimensions).

    Raises:
      ValueError: if `num_steps` is below 1.
    """
    _check_num_steps(num_steps)
    return _greedy(problem, num_steps, momentum)


def greedy_pair(
    problem: NoisyQuadratic, moments: Moments
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Learning rate and momentum of Theorem 2;
    at rest, where both quotients are 0/0, momentum 0.
    """
    params, velocity, cross = moments
    h = problem.curvatures
    noise = h * problem.noise_variances
    rest = jnp.sum(velocity) <= 0
    sum_velocity = jnp.where(rest, 1, jnp.sum(velocity))
    h_cross = jnp.sum(h * cross)
    curvature = jnp.sum(h**2 * (params + noise))
    numerator = jnp.sum(h * params) * sum_velocity - jnp.sum(cross) * h_cross
    learning_rate = numerator / (curvature * sum_velocity - h_cross**2)
    mu = jnp.where(rest, 0, (learning_rate * h_cross - jnp.sum(cross)) / sum_velocity)
    return learning_rate, mu


def fixed_schedule(problem: NoisyQuadratic, num_steps: int) -> Schedule:
    """The one pair, held throughout, with the least expected loss after `num_steps`.

    Args:
      problem: the noisy quadratic.
      num_steps: T.

    Raises:
      ValueError: if `num_steps` is below 1.
    """
    _check_num_steps(num_steps)
    learning_rate, momentum = _best_pair(problem, num_steps)
    return _evaluate(problem, jnp.full(num_steps, learning_rate), jnp.full(num_steps, momentum))


def optimized_schedule(
    problem: NoisyQuadratic,
    num_steps: int,
    max_learning_rate: float | None = None,
    *,
    start: tuple[float, float] | None = None,
    num_updates: int = 800,
    meta_learning_rate: float = 0.03,
) -> Schedule:
    """A schedule that is locally optimal for the loss after `num_steps`, by Adam through Theorem 1.

    Adam runs on `(log alpha_t, log(1 - mu_t))` of the log of the loss, its rate falling to 0 along
    a half cosine, and the best schedule met is kept. The paper's own settings (rate .003, 500
    updates) stop at three times the loss.

    Args:
      problem: the noisy quadratic.
      num_steps: T.
      max_learning_rate: cap on every alpha_t, by default `2 / h_max`. The paper has one to keep any
        coordinate's loss from growing past its start, "a pathological solution which would be
        unstable on realistic problems".
      start: constant (learning rate, momentum) to begin at; by default that of `fixed_schedule`.
      num_updates: of Adam.
      meta_learning_rate: Adam's, at the start.

    Raises:
      ValueError: for a length or number of updates below 1, a rate or cap that is not positive,
        momentum not in [0, 1).
    """
    _check_num_steps(num_steps)
    if num_updates < 1:
        raise ValueError(f"num_updates must be at least 1, got {num_updates}")
    if max_learning_rate is None:
        max_learning_rate = 2 / jnp.max(problem.curvatures)
    elif not max_learning_rate > 0:
        raise ValueError(f"max_learning_rate must be above 0, got {max_learning_rate}")
    if start is None:
        start = _best_pair(problem, num_steps)
    elif not (start[0] > 0 and 0 <= start[1] < 1):
        raise ValueError(
            f"start must be a learning rate above 0 and a momentum in [0, 1), got {start}"
        )
    dtype = problem.curvatures.dtype
    learning_rate, momentum = jnp.asarray(start[0], dtype), jnp.asarray(start[1], dtype)
    cap, meta_learning_rate = (
        jnp.asarray(max_learning_rate, dtype),
        jnp.asarray(meta_learning_rate, dtype),
    )
    best = _optimize(
        problem, learning_rate, momentum, cap, meta_learning_rate, num_steps, num_updates
    )
    return _evaluate(problem, *best)


@jax.jit
def coordinate_losses(
    problem: NoisyQuadratic, learning_rates: Float[Array, " T"], momenta: Float[Array, " T"]
) -> Float[Array, "T+1 dim"]:
    """Each coordinate's part of the expected loss,
    whose sum over coordinates is `expected_losses`.
    """

    def step(moments, rates):
        moments = moments_step(problem, moments, *rates)
        return moments, moments.params / 2

    moments = initial_moments(problem)
    _, losses = lax.scan(step, moments, (learning_rates, momenta))
    return jnp.concatenate([moments.params[None] / 2, losses])


def _check_num_steps(num_steps):
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")


_evaluate = jax.jit(
    lambda problem, rates, momenta: Schedule(
        rates, momenta, expected_losses(problem, rates, momenta)
    )
)


@jax.jit(static_argnums=(1, 2))
def _greedy(problem, num_steps, momentum):
    def step(moments, _):
        memory = (
            moments if momentum else Moments(moments.params, *(jnp.zeros_like(moments.params),) * 2)
        )
        learning_rate, mu = greedy_pair(problem, memory)
        moments = moments_step(problem, memory, learning_rate, mu)
        return moments, (learning_rate, mu, expected_loss(moments))

    moments = initial_moments(problem)
    _, (learning_rates, momenta, losses) = lax.scan(step, moments, length=num_steps)
    return Schedule(
        learning_rates, momenta, jnp.concatenate([expected_loss(moments)[None], losses])
    )


@jax.jit(static_argnums=(1, 2, 3))
def _best_pair(problem, num_steps, points=9, num_zooms=9):
    """Zooms a grid over (log(alpha h_max / (1 - mu)), log(1 - mu)),
    the pair's nearly independent directions.
    """
    dtype = problem.curvatures.dtype
    h_max = jnp.max(problem.curvatures)

    def pair(point):
        one_minus = jnp.exp(point[1])
        return jnp.exp(point[0]) * one_minus / h_max, 1 - one_minus

    def final_loss(point):
        learning_rate, mu = pair(point)
        step = lambda _, moments: moments_step(problem, moments, learning_rate, mu)
        loss = expected_loss(lax.fori_loop(0, num_steps, step, initial_moments(problem)))
        return jnp.where(jnp.isnan(loss), jnp.inf, loss)

    unit = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1, 1, points, dtype=dtype)] * 2), -1).reshape(
        -1, 2
    )
    low, high = np.log([1e-3, 1e-3]), np.log([1e2, 1.0])
    first = (jnp.asarray((low + high) / 2, dtype), jnp.asarray((high - low) / 2, dtype))

    def zoom(carry, _):
        center, half_width = carry
        grid = center + half_width * unit
        grid = grid.at[:, 1].min(0)  # Momentum is never negative.
        return (grid[jnp.argmin(jax.vmap(final_loss)(grid))], 0.4 * half_width), None

    (center, _), _ = lax.scan(zoom, first, length=num_zooms)
    return pair(center)


@jax.jit(static_argnums=(5, 6))
def _optimize(problem, learning_rate, momentum, cap, meta_learning_rate, num_steps, num_updates):
    log_cap = jnp.log(cap)
    adam = optax.scale_by_adam()

    def log_loss(point):
        losses = expected_losses(problem, jnp.exp(point[0]), 1 - jnp.exp(point[1]))
        return jnp.log(losses[-1])

    def project(point):
        return jnp.stack([jnp.minimum(point[0], log_cap), jnp.minimum(point[1], 0)])

    def update(i, carry):
        point, state, best, best_loss = carry
        loss, grad = jax.value_and_grad(log_loss)(point)
        better = loss < best_loss
        best, best_loss = jnp.where(better, point, best), jnp.where(better, loss, best_loss)
        with jax.numpy_dtype_promotion("standard"):
            direction, state = adam.update(grad, state)
        rate = (
            meta_learning_rate * (1 + jnp.cos(jnp.pi * (i / num_updates).astype(point.dtype))) / 2
        )
        return project(point - rate * direction), state, best, best_loss

    point = project(
        jnp.stack(
            [jnp.full(num_steps, jnp.log(learning_rate)), jnp.full(num_steps, jnp.log1p(-momentum))]
        )
    )
    carry = (point, adam.init(point), point, jnp.asarray(jnp.inf, point.dtype))
    _, _, best, _ = lax.fori_loop(0, num_updates, update, carry)
    return jnp.exp(best[0]), 1 - jnp.exp(best[1])
