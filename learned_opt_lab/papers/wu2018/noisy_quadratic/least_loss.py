"""The least loss that any schedule reaches without noise, in closed form.

After T steps of SGD with momentum from rest every coordinate is `p(h) theta_0`, p a polynomial of
degree T with p(0) = 1, and two hyperparameters a step give all of them. On Chebyshev zeros h and a
start of ones the least `1/2 sum h p(h)^2` follows from the orthonormal polynomials of the zeros
(Christoffel's function of the measure with weight h, at 0). The greedy schedule reaches it at every
T: without noise it is the method of conjugate gradients, so nothing is gained by looking ahead
(Wu et al., ICLR 2018, arXiv 1803.02021, Fig 3).
"""

import numpy as np


def least_losses(dim: int, low: float, high: float, num_steps: int) -> np.ndarray:
    """The least expected loss after 0, ..., `num_steps` steps, `[num_steps + 1]`, in 64 bits.

    Args:
      dim: Chebyshev zeros; the formula needs more than `num_steps`.
      low: end of the interval that they are the zeros of.
      high: its other end.
      num_steps: T.

    Raises:
      ValueError: for too few zeros.
    """
    if dim <= num_steps + 1:
        raise ValueError(f"dim must be above num_steps + 1 = {num_steps + 1}, got {dim}")
    k = np.arange(num_steps + 2)
    # Orthonormal for the mean over the zeros, at 0, where they alternate in sign.
    angle = np.arccosh((high + low) / (high - low))
    values = np.where(k == 0, 1, np.sqrt(2) * np.cosh(k * angle)) * (-1.0) ** k
    recurrence = (high - low) / 4 * np.where(k[:-1] == 0, np.sqrt(2), 1)
    kernels = np.cumsum(values**2)[:-1]
    # Squares at 0 of those that are orthonormal with weight h, which are kernels by degree.
    weighted = kernels**2 / (-recurrence * values[1:] * values[:-1])
    return dim / 2 / np.cumsum(weighted)
