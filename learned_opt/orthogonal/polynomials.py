"""The polynomials of Newton-Schulz iterations (Polar Express, arXiv 2505.16932, algorithm 1).

A polynomial `p(x) = a x + b x^3 + c x^5` of a matrix, `a X + b X X' X + ...`, acts on its singular
values. The best one on `[l, u]` is next to 1 everywhere there. What it makes of `[l, u]` is a
shorter interval around 1, on which the next one is the best.
"""

import math
from typing import NamedTuple

import numpy as np

_ROUNDS = 100
"""Of Remez' exchange; some ten are enough."""


class Quintic(NamedTuple):
    """`a x + b x^3 + c x^5`."""

    a: float
    b: float
    c: float


def polar_polynomials(smallest: float, number: int) -> tuple[tuple[Quintic, ...], float]:
    """Polynomials that one after the other take singular values to 1.

    Args:
      smallest: in (0, 1): singular values from this to 1 are taken there; smaller ones are made
        larger only.
      number: of polynomials.

    Returns:
      The polynomials, first to last, and how far from 1 they leave a value in `[smallest, 1]`.

    Raises:
      ValueError: for a value outside (0, 1), or a number below 1.

    Example:
      >>> polynomials, error = polar_polynomials(0.003, 4)
      >>> round(error, 3)
      0.198
    """
    if not 0.0 < smallest < 1.0:
        raise ValueError(f"smallest must be within (0, 1), got {smallest}")
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    polynomials, error, low, high = [], 0.0, smallest, 1.0
    for _ in range(number):
        polynomial, error = _best(low, high)
        polynomials.append(polynomial)
        low, high = 1.0 - error, 1.0 + error
    return tuple(polynomials), error


def _best(low: float, high: float) -> tuple[Quintic, float]:
    """The odd quintic nearest to 1 on `[low, high]`, and its error.

    By Remez' exchange: the error is the same at four points, two of them the ends, with alternating
    signs.
    """
    if high - low < 1e-4:  # Newton-Schulz' own, the best one's limit
        center = (low + high) / 2
        return Quintic(1.875 / center, -1.25 / center**3, 0.375 / center**5), 0.0
    inner = (3 * low + high) / 4, (low + 3 * high) / 4
    for _ in range(_ROUNDS):
        points = np.array([low, *inner, high])
        columns = (points, points**3, points**5, np.array([1.0, -1.0, 1.0, -1.0]))
        a, b, c, error = np.linalg.solve(np.stack(columns, axis=1), np.ones(4))
        root = math.sqrt(9 * b * b - 20 * a * c)
        extremes = tuple(math.sqrt((-3 * b + sign * root) / (10 * c)) for sign in (-1, 1))
        if np.allclose(extremes, inner, rtol=1e-12, atol=0):
            break
        inner = extremes
    return Quintic(float(a), float(b), float(c)), abs(float(error))
