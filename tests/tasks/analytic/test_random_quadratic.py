import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tasks.analytic.random_quadratic import random_quadratic_family


def test_spectrum_is_log_uniform_and_rotation_is_uniform():
    family = random_quadratic_family(5, min_curvature=0.01, max_curvature=10.0)
    quadratics = jax.jit(jax.vmap(family.sample))(jax.random.split(jax.random.key(0), 400))
    hessian = np.asarray(quadratics.hessian, np.float64)
    np.testing.assert_allclose(hessian, hessian.swapaxes(1, 2), atol=1e-5)
    values, vectors = np.linalg.eigh(hessian)
    assert stats.kstest(np.log10(values).ravel(), stats.uniform(-2, 3).cdf).pvalue > 1e-3
    # A coordinate of a uniform unit vector, squared, is Beta(1/2, (dim - 1)/2).
    assert stats.kstest(vectors[:, 2, 4] ** 2, stats.beta(0.5, 2).cdf).pvalue > 1e-3
    assert stats.kstest(np.asarray(quadratics.minimum).ravel(), stats.norm.cdf).pvalue > 1e-3


def test_gradient_is_the_closed_form_plus_noise():
    family = random_quadratic_family(4, noise_std=0.3)
    quadratic = family.sample(jax.random.key(0))
    task = family.task(quadratic)
    key_init, key_batch, key_loss = jax.random.split(jax.random.key(1), 3)
    params = task.init(key_init)
    distance = np.asarray(params - quadratic.minimum, np.float64)
    expected = np.asarray(quadratic.hessian, np.float64) @ distance
    loss_and_grad = jax.jit(jax.value_and_grad(lambda p, b: task.loss(p, key_loss, b)[0]))

    quiet, grad = loss_and_grad(params, jnp.zeros(4))
    np.testing.assert_allclose(quiet, 0.5 * distance @ expected, rtol=1e-5)
    np.testing.assert_allclose(grad, expected, atol=1e-5)
    draw = jax.jit(jax.vmap(lambda key: task.sample_batch(family.data, key, "train")))
    noise = np.asarray(draw(jax.random.split(key_batch, 4000)))
    _, noisy = loss_and_grad(params, jnp.asarray(noise[0]))
    np.testing.assert_allclose(noisy - grad, noise[0], atol=1e-5)
    assert np.abs(noise.mean(0) / (0.3 / np.sqrt(4000))).max() < 4
    np.testing.assert_allclose(noise.std(0), 0.3, rtol=4 / np.sqrt(2 * 4000))


def test_gradient_descent_follows_the_matrix_power():
    family = random_quadratic_family(6, min_curvature=0.1, max_curvature=2.0, init_std=3.0)
    quadratic = family.sample(jax.random.key(0))
    task = family.task(quadratic)
    start = task.init(jax.random.key(1))

    def step(params, key):
        batch = task.sample_batch(family.data, key, "train")
        return params - 0.4 * jax.grad(lambda p: task.loss(p, key, batch)[0])(params), None

    end, _ = jax.lax.scan(step, start, jax.random.split(jax.random.key(2), 10))
    hessian, minimum = (
        np.asarray(quadratic.hessian, np.float64),
        np.asarray(quadratic.minimum, np.float64),
    )
    power = np.linalg.matrix_power(np.eye(6) - 0.4 * hessian, 10)
    np.testing.assert_allclose(end, minimum + power @ (np.asarray(start) - minimum), atol=1e-5)


def test_types_are_32_bit_on_x64():
    family = random_quadratic_family(3, noise_std=1.0)
    with jax.enable_x64(True):
        task = family.task(family.sample(jax.random.key(0)))
        params, batch = (
            task.init(jax.random.key(1)),
            task.sample_batch((), jax.random.key(2), "test"),
        )
        loss, metrics = task.loss(params, jax.random.key(3), batch)
    assert {leaf.dtype for leaf in (params, batch, loss)} == {np.dtype("float32")}
    assert metrics == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be 1 or more; got 0"),
        ({"dim": 2, "min_curvature": 0.0}, r"0 < min <= max, in float32 too; got 0\.0 and 1\.0"),
        ({"dim": 2, "min_curvature": 2.0}, r"0 < min <= max, in float32 too; got 2\.0 and 1\.0"),
        ({"dim": 2, "noise_std": -1.0}, r"must not be negative, nor infinite; got noise_std=-1\.0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_quadratic_family(**arguments)
