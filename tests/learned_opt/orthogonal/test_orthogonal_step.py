"""Which matrix a tensor is, and its step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.orthogonal.matrix_view import matrix_view
from learned_opt.orthogonal.orthogonal_step import orthogonal_step
from tests.support.learned_opt.polar import ERROR


@pytest.mark.parametrize(
    ("shape", "layers", "wanted"),
    [
        ((20, 30), 0, (1, 20, 30)),
        ((64, 4, 16), 0, (1, 64, 64)),  # queries: features, heads, size
        ((4, 16, 64), 0, (1, 64, 64)),  # out of attention: heads, size, features
        ((3, 32, 64), 0, (1, 96, 64)),  # a convolution over time
        ((3, 3, 1, 16), 0, (1, 9, 16)),
        ((5, 5, 8, 16), 0, (1, 200, 16)),
        ((1, 1, 24, 48), 0, (1, 24, 48)),
        ((12, 20, 30), 1, (12, 20, 30)),
        ((12, 64, 4, 16), 1, (12, 64, 64)),
        ((2, 3, 20, 30), 2, (6, 20, 30)),
        ((7,), 0, (1, 1, 7)),
        ((), 0, (1, 1, 1)),
        ((3, 0), 0, (1, 3, 0)),
    ],
)
def test_the_matrix_of_a_tensor(shape, layers, wanted):
    assert matrix_view(shape, layers) == wanted


@pytest.mark.parametrize("shape", [(8, 8), (6, 24), (24, 6), (3, 3, 4, 8)])
def test_a_step_adds_as_much_at_every_width(shape):
    view = matrix_view(shape)
    direction = jax.random.normal(jax.random.key(0), shape)
    step = orthogonal_step(direction / jnp.sqrt(jnp.mean(direction**2)))
    values = np.linalg.svd(np.asarray(view.of(step)), compute_uv=False)
    scale = max(1.0, view.columns / view.rows) ** 0.5
    assert values.max() < (1 + ERROR) * scale
    assert np.median(values) > (1 - ERROR) * scale


def test_layers_are_matrices_of_their_own():
    direction = jax.random.normal(jax.random.key(0), (3, 6, 10))
    each = jnp.stack([orthogonal_step(layer) for layer in direction])
    np.testing.assert_allclose(orthogonal_step(direction, 1), each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_step_is_as_long_as_its_direction(scale):
    direction = scale * jax.random.normal(jax.random.key(0), (8, 8))
    ratio = orthogonal_step(direction) / orthogonal_step(direction / scale)
    np.testing.assert_allclose(ratio, scale, rtol=1e-3)
    # That of a diagonal, whose polar factor is known, over the elements that move.
    step = orthogonal_step(scale * 3.0 * jnp.eye(4))
    assert np.abs(np.diag(step) / (3.0 * scale) - 1.0).max() < ERROR
    at_zero = jax.grad(lambda x: jnp.sum(orthogonal_step(x)))(jnp.zeros((3, 4)))
    assert np.isfinite(np.asarray(at_zero)).all()


def test_what_rests_in_a_matrix_rests():
    direction = jax.random.normal(jax.random.key(0), (6, 6)).at[2, 3].set(0.0)
    step = orthogonal_step(direction)
    assert step[2, 3] == 0.0
    assert np.count_nonzero(np.asarray(step)) == 35
