"""The log objective of `quadratic` for a general symmetric matrix,
without its eigenvalues (arXiv 2006.16495).

The iterate and its derivative are carried side by side under one shared exponent, so neither
overflows nor vanishes.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float, Int

from tasks.analytic.quadratic import check_num_steps, log_per_step, same_dtype
from tasks.numerics.two_words import (
    TwoWords,
    multiply,
    scaled,
    subtract,
    total,
    two_words,
    wide,
    wide_ratio,
)


def dense_log_loss_after_steps(
    hessian: Float[Array, "dim dim"],
    start: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """G(eta) for a general symmetric H, without its eigenvalues.

    Carries (w, dw/d eta) in two words, both divided by the same power of two at each step, so that
    G' = 2 (w^T H dw/d eta) / (t w^T H w) is exact in forward and in reverse mode. In H and w_0
    forward mode alone differentiates, in one word.

    Args:
      hessian: `[dim, dim]`, symmetric and positive semi-definite.
      start: `[dim]`, w_0.
      step_size: eta; may be traced.
      num_steps: t >= 1; may be traced.

    Returns:
      The log loss per step; on exact arrival as `log_loss_after_steps`.

    Raises:
      ValueError: for shapes that do not fit, a matrix that is not symmetric or has a negative
        eigenvalue, or t below 1, naming the argument; traced values are not looked at.
    """
    _check_dense(hessian, start, num_steps)
    return _dense_log_loss(
        *same_dtype(hessian, start, step_size), jnp.asarray(num_steps).astype(jnp.int32)
    )


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

    return lax.fori_loop(
        0,
        num_steps,
        step,
        _Iterate(two_words(start), two_words(jnp.zeros_like(start)), jnp.int32(0)),
    )


def _matvec(matrix, vector: TwoWords) -> TwoWords:
    return total(
        multiply(two_words(matrix), TwoWords(*(jnp.broadcast_to(x, matrix.shape) for x in vector)))
    )


@jax.custom_jvp
def _dense_log_loss(hessian, start, eta, num_steps):
    return _dense_value_and_slope(hessian, start, eta, num_steps)[0]


@partial(_dense_log_loss.defjvp, symbolic_zeros=True)
def _dense_log_loss_jvp(primals, tangents):
    hessian, start, eta, num_steps = primals
    value, slope = _dense_value_and_slope(*primals)
    zero = lambda x: type(x) is SymbolicZero
    tangent = jnp.zeros_like(value) if zero(tangents[2]) else slope * tangents[2]
    if not (zero(tangents[0]) and zero(tangents[1])):
        moves = [
            jnp.zeros_like(x) if zero(dot) else dot
            for x, dot in zip(primals[:2], tangents[:2], strict=True)
        ]
        in_one_word = lambda hessian, start: _dense_in_one_word(hessian, start, eta, num_steps)
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
    slope = (
        wide_ratio(wide(total(multiply(at.slope, gradient))), twice_loss)
        * 2
        / num_steps.astype(eta.dtype)
    )
    return log_per_step(
        twice_loss._replace(exponent=twice_loss.exponent + 2 * at.exponent), num_steps
    ), slope


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
    check_num_steps(num_steps)
