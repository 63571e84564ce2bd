"""Arguments of tasks that are nan, infinite, or do not fit: refused when the task is made."""

import numpy as np
import pytest

from tasks.analytic import least_squares, surfaces
from tasks.analytic.quadratic import log_loss_after_steps, quadratic_task
from tasks.analytic.random_quadratic import random_quadratic_family
from tasks.images.image_data import from_arrays
from tasks.images.networks import MLP
from tasks.text import char_family

IMAGES, LABELS = np.zeros((40, 2, 2), np.float32), np.arange(40) % 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_quadratic_family(2, noise_std=np.nan), "noise_std=nan"),
        (lambda: random_quadratic_family(2, init_std=np.inf), "init_std=inf"),
        (lambda: random_quadratic_family(2, max_curvature=np.inf), "0 < min <= max"),
        (lambda: random_quadratic_family(2, min_curvature=1e-50), "0 < min <= max"),
        (lambda: random_quadratic_family(2, min_curvature=np.nan), "0 < min <= max"),
        (lambda: MLP(init_scale=np.nan), "init_scale must be positive"),
        (lambda: MLP(init_scale=np.inf), "init_scale must be positive"),
        (
            lambda: from_arrays(IMAGES, LABELS, fractions=(np.nan, 0.1, 0.1, 0.1)),
            "fractions must be",
        ),
        (lambda: from_arrays(np.full_like(IMAGES, np.nan), LABELS), "images must be finite"),
        (lambda: from_arrays(np.full(IMAGES.shape, 1e300), LABELS), "images must be finite"),
        # Windows would end in another split.
        (lambda: char_family(length=10**6), "length must be below"),
        (
            lambda: least_squares.least_squares_family(2, 4, np.inf),
            "noise_std must be 0 or more and finite",
        ),
        (lambda: surfaces.beale((np.nan, 1.0)), "start must be finite"),
        (lambda: surfaces.smoothed_bukin(epsilon=np.inf), "epsilon must be > 0"),
        (lambda: quadratic_task(np.array([1.0, np.inf]), np.ones(2)), "eigenvalues must be finite"),
        (
            lambda: quadratic_task(np.ones(2), np.array([1.0, np.nan])),
            "coefficients must be finite",
        ),
        (
            lambda: log_loss_after_steps(np.ones(2), np.ones(2), 0.1, 2**30 + 1),
            "num_steps must be at most 1073741824",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
