"""MNIST-1D: ten hand-drawn one-dimensional shapes,
transformed and made noisy (Greydanus and Kobak, arXiv 2011.14439).

Made from the published description, with shapes of our own: a shape of 12 points is padded, scaled,
sheared and shifted in a circle, overlaid with smooth and with white noise, and sampled at 40
points. Small, and yet a linear model, an MLP and a convolutional network differ clearly on it.
Numbers are not comparable with those of the released data.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from tasks.images.image_data import ImageData, from_arrays

NUM_POINTS = 40
_SHAPES = np.array(
    [
        [0, 1, 2, 3, 3.5, 4, 4, 3.5, 3, 2, 1, 0],
        [0, -3, -2.4, -1.8, -1.2, -0.6, 0.6, 1.2, 1.8, 2.4, 3, 0],
        [0, 2, 3, 3, 2, 0.5, -0.5, -2, -3, -3, -2, 0],
        [0, 2.5, 3, 2.5, 0.5, 0, 0, 0.5, 2.5, 3, 2.5, 0],
        [0, -1, -2, -3, -4, -4, 2, 2, 1, 1, 0, 0],
        [0, -3, -3, -3, -1, 1, 2.5, 3, 3, 2.5, 1, 0],
        [0, -1.5, -2.5, -3, -3.5, -3.5, -2, -0.5, -2, -3, -1.5, 0],
        [0, 3.5, 3.5, 3, 2.4, 1.8, 1.2, 0.6, 0, -0.6, -1.2, 0],
        [0, -2, -3, -2, 1, 3, 3, 1, -2, -3, -2, 0],
        [0, -2, -3, -3, -2, 0, 0, 0, 0, -0.5, -1.5, 0],
    ]
)
"""`[10, 12]`: no two are equal up to scale and shift."""


@functools.cache
def mnist1d(num_examples: int = 5000, seed: int = 0) -> ImageData:
    """The data set: features `[40]` of unit scale, ten classes of equal size, in the four splits.

    Args:
      num_examples: in all, a multiple of ten; the paper has 4,000 for training and 1,000 for
        testing.
      seed: of the generator.

    Raises:
      ValueError: for a number of examples that is no positive multiple of ten.
    """
    if num_examples < 10 or num_examples % 10:
        raise ValueError(f"num_examples must be a positive multiple of 10, got {num_examples}")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_examples, dtype=np.int32) % 10)
    signals = np.stack([_signal(rng, _SHAPES[label]) for label in labels])
    return from_arrays(signals.astype(np.float32), labels, seed=seed)


def _signal(rng: np.random.Generator, shape: NDArray) -> NDArray:
    """One example: 36 to 60 points with the shape at a random place,
    noise on top, sampled at 40.
    """
    length = 12 + rng.integers(36, 61)
    signal = np.zeros(length)
    signal[:12] = shape * (1 + rng.uniform(-0.4, 0.4)) / 3
    signal = np.roll(signal, rng.integers(length // 3))
    signal += 0.25 * _smooth(rng.normal(size=length), width=2.0)
    sampled = np.interp(np.linspace(0, length - 1, NUM_POINTS), np.arange(length), signal)
    shear = 0.75 * rng.uniform(-0.5, 0.5) * np.linspace(-0.5, 0.5, NUM_POINTS)
    return sampled - shear + 0.02 * rng.normal(size=NUM_POINTS)


def _smooth(noise: NDArray, width: float) -> NDArray:
    """Gaussian filter around the circle, scaled to unit deviation: correlated noise."""
    frequencies = np.fft.rfftfreq(noise.size)
    smooth = np.fft.irfft(
        np.fft.rfft(noise) * np.exp(-2 * (np.pi * frequencies * width) ** 2), noise.size
    )
    return smooth / smooth.std()
