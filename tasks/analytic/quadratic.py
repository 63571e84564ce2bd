"""Gradient descent on a quadratic f(w) = 1/2 w^T H w, and the log objective
whose meta-gradient neither explodes nor vanishes (Wang, Yuan, Wu, Ge, arXiv 2006.16495).

In the eigenbasis `w_t = (1 - eta lambda)^t w_0`, so F(eta) = f(w_t) and its derivative are
exponential in t for almost every step size, while G(eta) = (1/t) log F(eta) and G' are polynomial:

    G'(eta) = -2 w0^T (I - eta H)^{2t-1} H^2 w0 / w0^T (I - eta H)^{2t} H w0

Backpropagation through log F forms 1/F times F', which overflow or vanish one by one; the functions
here do not.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from tasks.base import Task
from tasks.numerics.two_words import (
    Wide,
    exact_product,
    subtract,
    two_words,
    wide,
    wide_power,
    wide_product,
    wide_ratio,
    wide_total,
)

MAX_NUM_STEPS = 2**30
"""Powers of `2 t` are counted in int32."""


def log_loss_after_steps(
    eigenvalues: Float[Array, " dim"],
    coefficients: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """G(eta) = (1/t) log f(w_t), finite and differentiable at any step size,
    with t up to 10^6 in float32.

    Powers of the factors `1 - eta lambda_i` are kept with an exponent of their own, and in two
    words: at the best step size the terms of G' are a hundred times their sum, and 2 t multiplies
    every rounding error.

    Args:
      eigenvalues: `[dim]`, lambda >= 0, not all zero.
      coefficients: `[dim]`, c: the start in the eigenbasis.
      step_size: eta; may be traced.
      num_steps: t >= 1; may be traced.

    Returns:
      The log loss per step. Where gradient descent arrives exactly (eta = 1 / lambda for every
      eigenvalue in play) it is twice the log of the smallest normal number, with gradient 0.

    Raises:
      ValueError: for a negative eigenvalue, shapes that differ, or t below 1, naming the argument;
        traced values are not looked at.
    """
    _check(eigenvalues, coefficients, num_steps)
    return _log_loss(
        *same_dtype(eigenvalues, coefficients, step_size), jnp.asarray(num_steps).astype(jnp.int32)
    )


def loss_after_steps(
    eigenvalues: Float[Array, " dim"],
    coefficients: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: int,
) -> Float[Array, ""]:
    """The naive objective F(eta) = f(w_t), by taking the steps; for comparison.

    Its derivative grows exponentially in t for eta > 2 / lambda_max and, up to the slowest mode,
    shrinks so below.

    Args:
      eigenvalues: `[dim]`, lambda >= 0.
      coefficients: `[dim]`, the start in the eigenbasis.
      step_size: eta; may be traced.
      num_steps: t >= 1.

    Raises:
      ValueError: as `log_loss_after_steps`.
    """
    _check(eigenvalues, coefficients, num_steps)
    lam, w, eta = same_dtype(eigenvalues, coefficients, step_size)
    w = lax.fori_loop(0, num_steps, lambda _, w: w - eta * (lam * w), w)
    return jnp.sum(lam * w**2) / 2


def quadratic_task(eigenvalues: Float[Array, " dim"], coefficients: Float[Array, " dim"]) -> Task:
    """f(w) = 1/2 sum(eigenvalues * w^2) from `coefficients`; every batch is empty, on every split.

    Raises:
      ValueError: for a negative eigenvalue or shapes that differ, naming the argument.
    """
    _check(eigenvalues, coefficients, 1)
    lam, start = same_dtype(eigenvalues, coefficients)
    return Task(
        init=lambda key: start,
        loss=lambda params, key, batch: (jnp.sum(lam * params**2) / 2, {}),
        sample_batch=lambda data, key, split: (),
    )


class _Powers(NamedTuple):
    """By coordinate lambda, c and the powers of f = 1 - eta lambda;
    the sum of `c^2 lambda f^(2 t)`.
    """

    lam: Wide
    c: Wide
    odd: Wide
    even: Wide
    twice_loss: Wide


def _powers(lam, c, eta, num_steps) -> _Powers:
    factor = wide(
        subtract(
            two_words(jnp.ones_like(lam)), exact_product(jnp.broadcast_to(eta, lam.shape), lam)
        )
    )
    lam, c = wide(two_words(lam)), wide(two_words(c))
    odd = wide_power(factor, 2 * num_steps - 1)
    even = wide_product(odd, factor)
    return _Powers(lam, c, odd, even, wide_total(_product(c, c, lam, even)))


def _product(*factors):
    return reduce(wide_product, factors)


def log_per_step(twice_loss: Wide, num_steps):
    """`log(twice_loss / 2) / t`; on exact arrival twice the log of the smallest normal number."""
    high = twice_loss.mantissa.high
    gone = high <= 0
    log = jnp.log(jnp.where(gone, 1, high)) + (twice_loss.exponent - 1).astype(high.dtype) * np.log(
        2
    )
    return jnp.where(
        gone, 2 * np.log(float(jnp.finfo(high.dtype).tiny)), log / num_steps.astype(high.dtype)
    )


@jax.custom_jvp
def _log_loss(lam, c, eta, num_steps):
    return log_per_step(_powers(lam, c, eta, num_steps).twice_loss, num_steps)


@_log_loss.defjvp
def _log_loss_jvp(primals, tangents):
    _, _, eta, num_steps = primals
    lam, c, odd, even, twice_loss = _powers(*primals)
    t = num_steps.astype(eta.dtype)
    share = lambda *factors: wide_ratio(_product(*factors), twice_loss)
    lam_slope = share(c, c, even) / t - 2 * eta * share(c, c, lam, odd)
    c_slope = 2 * share(c, lam, even) / t
    # The terms of this sum nearly cancel, so it is rounded last.
    slope = -2 * wide_ratio(wide_total(_product(c, c, lam, lam, odd)), twice_loss)
    tangent = (
        jnp.sum(lam_slope * tangents[0]) + jnp.sum(c_slope * tangents[1]) + slope * tangents[2]
    )
    return log_per_step(twice_loss, num_steps), tangent


def same_dtype(*arrays):
    """The arrays in JAX's default floating dtype."""
    dtype = jnp.result_type(float)
    return tuple(jnp.asarray(x).astype(dtype) for x in arrays)


def _check(eigenvalues, coefficients, num_steps):
    shape = jnp.shape(eigenvalues)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"eigenvalues must have shape [dim] with dim >= 1, got {shape}")
    if jnp.shape(coefficients) != shape:
        raise ValueError(
            f"coefficients must have the shape of eigenvalues, {shape}, got "
            f"{jnp.shape(coefficients)}"
        )
    if not isinstance(eigenvalues, jax.core.Tracer) and not np.all(np.asarray(eigenvalues) >= 0):
        raise ValueError(f"eigenvalues must be 0 or more, got {np.min(np.asarray(eigenvalues))}")
    for name, value in (("eigenvalues", eigenvalues), ("coefficients", coefficients)):
        if not isinstance(value, jax.core.Tracer) and not np.all(np.isfinite(np.asarray(value))):
            raise ValueError(f"{name} must be finite, got {value}")
    check_num_steps(num_steps)


def check_num_steps(num_steps):
    """Raises `ValueError` for a known number below 1, or of which twice is no int32."""
    if isinstance(num_steps, jax.core.Tracer):
        return
    if not num_steps >= 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if num_steps > MAX_NUM_STEPS:
        raise ValueError(f"num_steps must be at most {MAX_NUM_STEPS}, got {num_steps}")
