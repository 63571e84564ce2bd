"""Gradient descent on a quadratic f(w) = 1/2 w^T H w, and the log objective whose meta-gradient neither explodes nor
vanishes (Wang, Yuan, Wu, Ge, arXiv 2006.16495).

In the eigenbasis `w_t = (1 - eta lambda)^t w_0`, so F(eta) = f(w_t) and its derivative are exponential in t for almost
every step size, while G(eta) = (1/t) log F(eta) and G' are polynomial:

    G'(eta) = -2 w0^T (I - eta H)^{2t-1} H^2 w0 / w0^T (I - eta H)^{2t} H w0

Backpropagation through log F forms 1/F times F', which overflow or vanish one by one; the functions here do not.
"""

from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float, Int

from tasks.base import Task
from tasks.two_words import (
    TwoWords,
    Wide,
    exact_product,
    multiply,
    scaled,
    subtract,
    total,
    two_words,
    wide,
    wide_power,
    wide_product,
    wide_ratio,
    wide_total,
)


def log_loss_after_steps(
    eigenvalues: Float[Array, " dim"],
    coefficients: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """G(eta) = (1/t) log f(w_t), finite and differentiable at any step size, with t up to 10^6 in float32.

    Powers of the factors `1 - eta lambda_i` are kept with an exponent of their own, and in two words: at the best step
    size the terms of G' are a hundred times their sum, and 2 t multiplies every rounding error.

    Args:
      eigenvalues: `[dim]`, lambda >= 0, not all zero.
      coefficients: `[dim]`, c: the start in the eigenbasis.
      step_size: eta; may be traced.
      num_steps: t >= 1; may be traced.

    Returns:
      The log loss per step. Where gradient descent arrives exactly (eta = 1 / lambda for every eigenvalue in play) it
      is twice the log of the smallest normal number, with gradient 0.

    Raises:
      ValueError: for a negative eigenvalue, shapes that differ, or t below 1, naming the argument; traced values are
        not looked at.
    """
    _check(eigenvalues, coefficients, num_steps)
    return _log_loss(*_same_dtype(eigenvalues, coefficients, step_size), jnp.asarray(num_steps).astype(jnp.int32))


def dense_log_loss_after_steps(
    hessian: Float[Array, "dim dim"],
    start: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """G(eta) for a general symmetric H, without its eigenvalues.

    Carries (w, dw/d eta) in two words, both divided by the same power of two at each step, so that
    G' = 2 (w^T H dw/d eta) / (t w^T H w) is exact in forward and in reverse mode. In H and w_0 forward mode alone
    differentiates, in one word.

    Args:
      hessian: `[dim, dim]`, symmetric and positive semi-definite.
      start: `[dim]`, w_0.
      step_size: eta; may be traced.
      num_steps: t >= 1; may be traced.

    Returns:
      The log loss per step; on exact arrival as `log_loss_after_steps`.

    Raises:
      ValueError: for shapes that do not fit, a matrix that is not symmetric or has a negative eigenvalue, or t below
        1, naming the argument; traced values are not looked at.
    """
    _check_dense(hessian, start, num_steps)
    return _dense_log_loss(*_same_dtype(hessian, start, step_size), jnp.asarray(num_steps).astype(jnp.int32))


def loss_after_steps(
    eigenvalues: Float[Array, " dim"],
    coefficients: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: int,
) -> Float[Array, ""]:
    """The naive objective F(eta) = f(w_t), by taking the steps; for comparison.

    Its derivative grows exponentially in t for eta > 2 / lambda_max and, up to the slowest mode, shrinks so below.

    Args:
      eigenvalues: `[dim]`, lambda >= 0.
      coefficients: `[dim]`, the start in the eigenbasis.
      step_size: eta; may be traced.
      num_steps: t >= 1.

    Raises:
      ValueError: as `log_loss_after_steps`.
    """
    _check(eigenvalues, coefficients, num_steps)
    lam, w, eta = _same_dtype(eigenvalues, coefficients, step_size)
    w = lax.fori_loop(0, num_steps, lambda _, w: w - eta * (lam * w), w)
    return jnp.sum(lam * w**2) / 2


def quadratic_task(eigenvalues: Float[Array, " dim"], coefficients: Float[Array, " dim"]) -> Task:
    """f(w) = 1/2 sum(eigenvalues * w^2) from `coefficients`; every batch is empty, on every split.

    Raises:
      ValueError: for a negative eigenvalue or shapes that differ, naming the argument.
    """
    _check(eigenvalues, coefficients, 1)
    lam, start = _same_dtype(eigenvalues, coefficients)
    return Task(
        init=lambda key: start,
        loss=lambda params, key, batch: (jnp.sum(lam * params**2) / 2, {}),
        sample_batch=lambda data, key, split: (),
    )


class _Powers(NamedTuple):
    """By coordinate lambda, c and the powers of f = 1 - eta lambda; the sum of `c^2 lambda f^(2 t)`."""

    lam: Wide
    c: Wide
    odd: Wide
    even: Wide
    twice_loss: Wide


def _powers(lam, c, eta, num_steps) -> _Powers:
    factor = wide(subtract(two_words(jnp.ones_like(lam)), exact_product(jnp.broadcast_to(eta, lam.shape), lam)))
    lam, c = wide(two_words(lam)), wide(two_words(c))
    odd = wide_power(factor, 2 * num_steps - 1)
    even = wide_product(odd, factor)
    return _Powers(lam, c, odd, even, wide_total(_product(c, c, lam, even)))


def _product(*factors):
    return reduce(wide_product, factors)


def _log_per_step(twice_loss: Wide, num_steps):
    """`log(twice_loss / 2) / t`."""
    high = twice_loss.mantissa.high
    gone = high <= 0
    log = jnp.log(jnp.where(gone, 1, high)) + (twice_loss.exponent - 1).astype(high.dtype) * np.log(2)
    return jnp.where(gone, 2 * np.log(float(jnp.finfo(high.dtype).tiny)), log / num_steps.astype(high.dtype))


@jax.custom_jvp
def _log_loss(lam, c, eta, num_steps):
    return _log_per_step(_powers(lam, c, eta, num_steps).twice_loss, num_steps)


@_log_loss.defjvp
def _log_loss_jvp(primals, tangents):
    _, _, eta, num_steps = primals
    lam, c, odd, even, twice_loss = _powers(*primals)
    t = num_steps.astype(eta.dtype)
    share = lambda *factors: wide_ratio(_product(*factors), twice_loss)  # noqa: E731
    lam_slope = share(c, c, even) / t - 2 * eta * share(c, c, lam, odd)
    c_slope = 2 * share(c, lam, even) / t
    # The terms of this sum nearly cancel, so it is rounded last.
    slope = -2 * wide_ratio(wide_total(_product(c, c, lam, lam, odd)), twice_loss)
    tangent = jnp.sum(lam_slope * tangents[0]) + jnp.sum(c_slope * tangents[1]) + slope * tangents[2]
    return _log_per_step(twice_loss, num_steps), tangent


class _Iterate(NamedTuple):
    """w and dw/d eta, both `[dim]` and to be multiplied by 2^exponent."""

    w: TwoWords
    slope: TwoWords
    exponent: Array


def _descend(hessian, start, eta, num_steps) -> _Iterate:
    eta = two_words(eta)

    def step(_, at):
        gradient = _matvec(hessian, at.w)
        w = subtract(at.w, multiply(eta, gradient))
        slope = subtract(subtract(at.slope, gradient), multiply(eta, _matvec(hessian, at.slope)))
        _, exponent = jnp.frexp(lax.stop_gradient(jnp.max(jnp.abs(w.high))))
        return _Iterate(scaled(w, -exponent), scaled(slope, -exponent), at.exponent + exponent)

    return lax.fori_loop(0, num_steps, step, _Iterate(two_words(start), two_words(jnp.zeros_like(start)), jnp.int32(0)))


def _matvec(matrix, vector: TwoWords) -> TwoWords:
    return total(multiply(two_words(matrix), TwoWords(*(jnp.broadcast_to(x, matrix.shape) for x in vector))))


@jax.custom_jvp
def _dense_log_loss(hessian, start, eta, num_steps):
    return _dense_value_and_slope(hessian, start, eta, num_steps)[0]


@partial(_dense_log_loss.defjvp, symbolic_zeros=True)
def _dense_log_loss_jvp(primals, tangents):
    hessian, start, eta, num_steps = primals
    value, slope = _dense_value_and_slope(*primals)
    zero = lambda x: type(x) is SymbolicZero  # noqa: E731
    tangent = jnp.zeros_like(value) if zero(tangents[2]) else slope * tangents[2]
    if not (zero(tangents[0]) and zero(tangents[1])):
        moves = [jnp.zeros_like(x) if zero(dot) else dot for x, dot in zip(primals[:2], tangents[:2], strict=True)]
        in_one_word = lambda hessian, start: _dense_in_one_word(hessian, start, eta, num_steps)  # noqa: E731
        tangent = tangent + jax.jvp(in_one_word, (hessian, start), tuple(moves))[1]
    return value, tangent


def _dense_in_one_word(hessian, w, eta, num_steps):
    """G less its log scale, which does not depend on H or w under differentiation."""

    def step(_, w):
        w = w - eta * (hessian @ w)
        return jnp.ldexp(w, -jnp.frexp(lax.stop_gradient(jnp.max(jnp.abs(w))))[1])

    w = lax.fori_loop(0, num_steps, step, w)
    return jnp.log(w @ hessian @ w) / num_steps.astype(w.dtype)


def _dense_value_and_slope(hessian, start, eta, num_steps):
    at = _descend(hessian, start, eta, num_steps)
    gradient = _matvec(hessian, at.w)
    twice_loss = wide(total(multiply(at.w, gradient)))
    slope = wide_ratio(wide(total(multiply(at.slope, gradient))), twice_loss) * 2 / num_steps.astype(eta.dtype)
    return _log_per_step(twice_loss._replace(exponent=twice_loss.exponent + 2 * at.exponent), num_steps), slope


def _same_dtype(*arrays):
    dtype = jnp.result_type(float)
    return tuple(jnp.asarray(x).astype(dtype) for x in arrays)


def _check(eigenvalues, coefficients, num_steps):
    shape = jnp.shape(eigenvalues)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"eigenvalues must have shape [dim] with dim >= 1, got {shape}")
    if jnp.shape(coefficients) != shape:
        raise ValueError(f"coefficients must have the shape of eigenvalues, {shape}, got {jnp.shape(coefficients)}")
    if not isinstance(eigenvalues, jax.core.Tracer) and not np.all(np.asarray(eigenvalues) >= 0):
        raise ValueError(f"eigenvalues must be 0 or more, got {np.min(np.asarray(eigenvalues))}")
    _check_num_steps(num_steps)


def _check_dense(hessian, start, num_steps):
    shape = jnp.shape(hessian)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"hessian must have shape [dim, dim] with dim >= 1, got {shape}")
    if jnp.shape(start) != shape[:1]:
        raise ValueError(f"start must have shape {shape[:1]}, got {jnp.shape(start)}")
    if not isinstance(hessian, jax.core.Tracer):
        matrix = np.asarray(hessian, np.float64)
        if not np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-5 * np.abs(matrix).max()):
            raise ValueError("hessian must be symmetric")
        smallest = np.linalg.eigvalsh(matrix)[0]
        if smallest < -1e-5 * np.abs(matrix).max() * len(matrix):
            raise ValueError(f"hessian must have no negative eigenvalue, got {smallest}")
    _check_num_steps(num_steps)


def _check_num_steps(num_steps):
    if not isinstance(num_steps, jax.core.Tracer) and not num_steps >= 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
