"""Gradient descent on a quadratic f(w) = 1/2 w^T H w, and the log objective whose meta-gradient neither explodes nor
vanishes (Wang, Yuan, Wu, Ge, arXiv 2006.16495).

In the eigenbasis `w_t = (1 - eta lambda)^t w_0`, so F(eta) = f(w_t) and its derivative are exponential in t for almost
every step size, while G(eta) = (1/t) log F(eta) and G' are polynomial:

    G'(eta) = -2 w0^T (I - eta H)^{2t-1} H^2 w0 / w0^T (I - eta H)^{2t} H w0

Backpropagation through log F forms 1/F times F', which overflow or vanish one by one; the functions here do not.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from tasks.base import Task


def log_loss_after_steps(
    eigenvalues: Float[Array, " dim"],
    coefficients: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """G(eta) = (1/t) log f(w_t), finite and differentiable at any step size, with t up to 10^6 in float32.

    A log-sum-exp over `log(c_i^2 lambda_i / 2) + 2 t log|1 - eta lambda_i|`, relative to the largest factor. 2 t
    multiplies every rounding error, so the distances between factors are computed to full relative precision, products
    in two words where two factors nearly cancel.

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
    lam, c, eta = _same_dtype(eigenvalues, coefficients, step_size)
    t = jnp.asarray(num_steps, lam.dtype)
    active = (lam > 0) & (c != 0)
    product, product_error = _two_product(eta, lam)
    factor = (1 - product) - product_error
    largest = jnp.argmax(jnp.where(active, jnp.abs(factor), -1))
    tiny = jnp.finfo(lam.dtype).tiny
    scale = jnp.abs(factor[largest])
    scale = jnp.where(scale <= tiny, tiny, scale)
    alive = active & (factor != 0)
    near = _distance(eta, lam, factor, largest) / scale
    far = jnp.where(alive, jnp.abs(factor), scale) / scale
    is_near = near > -0.5
    log_ratio = jnp.where(is_near, jnp.log1p(jnp.where(is_near, near, 0)), jnp.log(far))
    log_weight = 2 * jnp.log(jnp.where(alive, jnp.abs(c), 1)) + jnp.log(jnp.where(alive, lam, 2) / 2)
    terms = jnp.where(alive, log_weight + 2 * t * log_ratio, -jnp.inf)
    total = jnp.where(jnp.any(alive), jax.nn.logsumexp(jnp.where(jnp.any(alive), terms, 0)), 0)
    return 2 * jnp.log(scale) + total / t


def dense_log_loss_after_steps(
    hessian: Float[Array, "dim dim"],
    start: Float[Array, " dim"],
    step_size: Float[Array, ""] | float,
    num_steps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """G(eta) for a general symmetric H, without its eigenvalues.

    w is divided by its norm at each step, with the norm's log added up. The norm counts as a constant under
    differentiation, so forward mode carries (w, dw/d eta) rescaled by the same factor, and G' = (df/d eta) / (t f) is
    exact.

    Args:
      hessian: `[dim, dim]`, symmetric and positive semi-definite.
      start: `[dim]`, w_0.
      step_size: eta; may be traced.
      num_steps: t >= 1; if traced, only forward mode differentiates.

    Raises:
      ValueError: for shapes that do not fit, a matrix that is not symmetric or has a negative eigenvalue, or t below
        1, naming the argument; traced values are not looked at.
    """
    _check_dense(hessian, start, num_steps)
    hessian, w, eta = _same_dtype(hessian, start, step_size)
    tiny = jnp.finfo(w.dtype).tiny

    def step(_, carry):
        w, log_scale = carry
        w = w - eta * (hessian @ w)
        norm = lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(w)), tiny))
        return w / norm, log_scale + jnp.log(norm)

    w, log_scale = lax.fori_loop(0, num_steps, step, (w, jnp.zeros((), w.dtype)))
    t = jnp.asarray(num_steps, w.dtype)
    return (2 * log_scale + jnp.log(jnp.maximum(w @ hessian @ w / 2, tiny))) / t


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


def _distance(eta, lam, factor, largest):
    """`|1 - eta lambda_i| - |1 - eta lambda_m|` to full relative precision, m the largest factor's index."""
    sign = jnp.where(factor < 0, -1, 1).astype(lam.dtype)
    same = eta * (lam[largest] - lam) * sign
    total, total_error = _two_sum(lam, lam[largest])
    product, product_error = _two_product(eta, total)
    across = ((2 - product) - product_error - eta * total_error) * sign
    return jnp.where(sign == sign[largest], same, across)


def _two_product(a, b):
    """`a b` rounded and its rounding error (Dekker 1971); the barrier keeps the compiler from fusing the product."""
    product = lax.optimization_barrier(a * b)
    a, b = lax.stop_gradient((a, b))
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    rounded = lax.stop_gradient(product)
    return product, ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low


def _split(a):
    """Upper and lower half of the significand."""
    factor = 2 ** ((jnp.finfo(a.dtype).nmant + 2) // 2) + 1
    scaled = lax.optimization_barrier(factor * a)
    high = scaled - lax.optimization_barrier(scaled - a)
    return high, a - high


def _two_sum(a, b):
    """`a + b` rounded and its rounding error (Knuth)."""
    total = lax.optimization_barrier(a + b)
    a, b, rounded = lax.stop_gradient((a, b, total))
    virtual = lax.optimization_barrier(rounded - a)
    return total, (a - lax.optimization_barrier(rounded - virtual)) + (b - virtual)


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
