"""Newton-Schulz iterations against singular value decompositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.orthogonal.newton_schulz import SMALLEST, orthogonalised
from learned_opt.orthogonal.polynomials import polar_polynomials
from tests.support.learned_opt.polar import ERROR


def polar(x):
    u, _, v = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    return u @ v


def test_polynomials_are_the_published_ones():
    """arXiv 2505.16932, for values from 1e-3; its listing is divided by 1.01, for safety."""
    published = (8.28721201814563, -23.595886519098837, 17.300387312530933)
    ours = polar_polynomials(1e-3, 5)[0][0]
    np.testing.assert_allclose(ours, published, rtol=0.08)
    assert polar_polynomials(1e-3, 5)[1] == pytest.approx(0.1134, abs=1e-3)


@pytest.mark.parametrize(("smallest", "number"), [(1e-3, 5), (3e-3, 4), (1e-2, 3), (0.3, 9)])
def test_no_value_ends_further_from_one_than_is_said(smallest, number):
    polynomials, error = polar_polynomials(smallest, number)
    x = np.geomspace(smallest, 1.0, 5001)
    for a, b, c in polynomials:
        x = a * x + b * x**3 + c * x**5
    assert np.abs(x - 1.0).max() <= error + 1e-9
    assert np.abs(x - 1.0).max() >= error - 1e-3


@pytest.mark.parametrize(("smallest", "number"), [(0.0, 3), (1.0, 3), (0.1, 0)])
def test_bad_arguments(smallest, number):
    with pytest.raises(ValueError, match=r"smallest|number"):
        polar_polynomials(smallest, number)


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (3, 12, 20), (1, 5), (5, 1)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_singular_values_are_near_one_and_vectors_are_kept(shape, scale):
    x = np.asarray(jax.random.normal(jax.random.key(0), shape))
    values = np.linalg.svd(x, compute_uv=False)
    out = np.asarray(orthogonalised(jnp.asarray(x * np.float32(scale))), np.float64)
    ends = np.linalg.svd(out, compute_uv=False)
    is_large = values > 2 * SMALLEST * values.max(axis=-1, keepdims=True)
    assert np.abs(ends[np.sort(is_large)[..., ::-1]] - 1.0).max() < ERROR
    # The polynomial changes values alone: in the basis of x, what comes out is diagonal.
    u, _, v = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    inside = np.swapaxes(u, -1, -2) @ out @ np.swapaxes(v, -1, -2)
    diagonal = np.einsum("...ii->...i", inside)
    off = inside - np.einsum("...i,ij->...ij", diagonal, np.eye(inside.shape[-1]))
    assert np.abs(off).max() < 2e-3


def test_rows_of_zeros_stay_and_low_rank_is_no_noise():
    left, right = (jax.random.normal(jax.random.key(i), (30, 2)) for i in (0, 1))
    x = (left @ right.T).at[3].set(0.0).at[:, 5].set(0.0)
    out = orthogonalised(x)
    assert not np.any(np.asarray(out[3]))
    assert not np.any(np.asarray(out[:, 5]))
    values = np.linalg.svd(np.asarray(out), compute_uv=False)
    assert np.abs(values[:2] - 1.0).max() < ERROR
    assert values[2:].max() < 1e-3
    assert not np.any(np.asarray(orthogonalised(jnp.zeros((4, 6)))))


def test_what_is_not_finite_is_seen():
    assert np.isnan(np.asarray(orthogonalised(jnp.full((2, 2), jnp.nan)))).all()


def test_derivatives_are_those_of_finite_differences_and_finite_at_zero():
    x, dx = (jax.random.normal(jax.random.key(i), (4, 6)) for i in (0, 1))
    with jax.enable_x64(True):
        x, dx = (jnp.asarray(np.asarray(each), jnp.float64) for each in (x, dx))
        value = lambda t: jnp.sum(jnp.sin(orthogonalised(x + t * dx)))
        exact = jax.grad(value)(0.0)
        np.testing.assert_allclose(exact, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-6)
    at_zero = jax.grad(lambda x: jnp.sum(orthogonalised(x)))(jnp.zeros((3, 4)))
    assert np.isfinite(np.asarray(at_zero)).all()


def test_one_axis_is_no_matrix():
    with pytest.raises(ValueError, match=r"matrices \[..., m, n\], got shape \(3,\)"):
        orthogonalised(jnp.ones(3))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (3, 0, 4), (0, 3, 4)])
def test_matrices_without_elements_stay(shape):
    x = jnp.zeros(shape, jnp.bfloat16)
    out = orthogonalised(x)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)


def test_several_matrices_promote_no_ranks():
    x = jax.random.normal(jax.random.key(0), (3, 4, 6))
    with jax.numpy_rank_promotion("raise"):
        found = jax.jit(lambda x: orthogonalised(x))(x)
    np.testing.assert_allclose(found, orthogonalised(x), rtol=1e-5, atol=1e-6)
