"""Tasks with formulas: quadratics, least squares, surfaces."""

from tasks.analytic import surfaces
from tasks.analytic.least_squares import least_squares_family
from tasks.analytic.noisy_quadratic import (
    Moments,
    NoisyQuadratic,
    chebyshev_curvatures,
    expected_loss,
    expected_losses,
    initial_moments,
    moments_step,
    noisy_quadratic_task,
)
from tasks.analytic.quadratic import log_loss_after_steps, loss_after_steps
from tasks.analytic.random_quadratic import random_quadratic_family
from tasks.analytic.surfaces import double_well_loss

__all__ = [
    "Moments",
    "NoisyQuadratic",
    "chebyshev_curvatures",
    "double_well_loss",
    "expected_loss",
    "expected_losses",
    "initial_moments",
    "least_squares_family",
    "log_loss_after_steps",
    "loss_after_steps",
    "moments_step",
    "noisy_quadratic_task",
    "random_quadratic_family",
    "surfaces",
]
