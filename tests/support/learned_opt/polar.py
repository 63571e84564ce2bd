"""How far from 1 the singular values of an orthogonal step may be, those that are not too small."""

from learned_opt.orthogonal.newton_schulz import NUM_ITERATIONS, SMALLEST
from learned_opt.orthogonal.polynomials import polar_polynomials

ERROR = polar_polynomials(SMALLEST, NUM_ITERATIONS)[1] + 0.005
"""Half a hundredth is for rounding."""
