import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.analytic.dense_quadratic import dense_log_loss_after_steps
from tasks.analytic.quadratic import log_loss_after_steps, loss_after_steps, quadratic_task


def draw(dim=20, seed=0):
    """H = X^T X with X and the start standard normal, L = 62.7; in the eigenbasis, and dense."""
    rng = np.random.default_rng(seed)
    matrix, start = rng.standard_normal((dim, dim)), rng.standard_normal(dim)
    hessian = matrix.T @ matrix
    eigenvalues, vectors = np.linalg.eigh(hessian)
    return eigenvalues.astype(np.float32), (vectors.T @ start).astype(np.float32), hessian, start


def closed_form(eigenvalues, coefficients, step_sizes, num_steps):
    """G and G' from the paper's formula in extended precision, scaled by the largest factor."""
    lam, c = np.asarray(eigenvalues, np.longdouble), np.asarray(coefficients, np.longdouble)
    factor = 1 - np.asarray(step_sizes, np.longdouble)[:, None] * lam
    scale = np.abs(factor).max(1, keepdims=True)
    power = c**2 * lam * (factor / scale) ** (2 * num_steps - 1)
    denominator = np.sum(power * factor / scale, 1)
    slope = -2 * np.sum(power * lam, 1) / (denominator * scale[:, 0])
    return np.log(denominator / 2) / num_steps + 2 * np.log(scale[:, 0]), slope


@pytest.fixture(scope="module")
def value_and_slope():
    """G and G' of one quadratic at `[step sizes]`."""
    return jax.jit(jax.vmap(jax.value_and_grad(log_loss_after_steps, 2), (None, None, 0, None)))


@pytest.mark.parametrize("seed", [0, 1])
def test_slope_is_the_closed_form_in_float32(value_and_slope, seed):
    eigenvalues, coefficients, _, _ = draw(seed=seed)
    reciprocals = 1 / eigenvalues
    # Where two factors are as large as each other,
    # and where one is zero to the last bit or nearly so.
    edges = 2 / np.add.outer(eigenvalues, eigenvalues)[np.triu_indices(20, 1)]
    neighbours = [np.nextafter(reciprocals, np.float32(limit)) for limit in (0, 1000)]
    step_sizes = np.concatenate(
        [np.geomspace(1e-4, 10, 600), reciprocals, *neighbours, edges]
    ).astype(np.float32)
    for num_steps in (1, 2, 3, 5, 10, 20, 50, 80, 100, 200, 500, 1000, 2000, 5000, 10_000):
        value, slope = (
            np.asarray(x) for x in value_and_slope(eigenvalues, coefficients, step_sizes, num_steps)
        )
        expected_value, expected = closed_form(eigenvalues, coefficients, step_sizes, num_steps)
        assert np.all(np.isfinite(slope))
        assert np.max(np.abs(slope - expected) / np.maximum(1, np.abs(expected))) <= 1e-6
        np.testing.assert_allclose(value, expected_value.astype(float), atol=1e-5)


def test_a_million_steps_and_extreme_step_sizes_are_finite(value_and_slope):
    eigenvalues, coefficients, _, _ = draw()
    step_sizes = np.array([1e-30, 1e-6, 0.03, 1.0, 1e6, 1e30], np.float32)
    value, slope = (
        np.asarray(x) for x in value_and_slope(eigenvalues, coefficients, step_sizes, 1_000_000)
    )
    expected_value, expected = closed_form(eigenvalues, coefficients, step_sizes, 1_000_000)
    np.testing.assert_allclose(value, expected_value.astype(float), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slope, expected.astype(float), rtol=1e-5, atol=1e-5)


def test_exact_arrival_and_idle_coordinates():
    slope = jax.jit(jax.grad(log_loss_after_steps, argnums=2))
    assert slope(np.array([2.0]), np.array([1.0]), 0.5, 10) == 0
    value = jax.jit(log_loss_after_steps)
    assert np.isfinite(value(np.array([2.0]), np.array([1.0]), 0.5, 10))
    eigenvalues, coefficients = np.array([0.0, 1.0, 3.0]), np.array([5.0, 2.0, 0.0])
    np.testing.assert_allclose(slope(eigenvalues, coefficients, 0.1, 7), -2 / 0.9, rtol=1e-6)
    np.testing.assert_allclose(
        value(eigenvalues, coefficients, 0.1, 7), np.log(2 * 0.9**14) / 7, rtol=1e-5
    )


def test_gradients_in_eigenvalues_and_coefficients():
    with jax.enable_x64(True):
        eigenvalues, coefficients = np.array([0.3, 1.0, 2.0]), np.array([1.0, -2.0, 0.5])
        naive = lambda *x: jnp.log(loss_after_steps(*x, 6)) / 6
        point = (jnp.array(eigenvalues), jnp.array(coefficients), jnp.array(0.4))
        got = jax.jit(jax.grad(lambda *x: log_loss_after_steps(*x, 6), (0, 1, 2)))(*point)
        for gradient, expected in zip(
            got, jax.jit(jax.grad(naive, (0, 1, 2)))(*point), strict=True
        ):
            np.testing.assert_allclose(gradient, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "num_steps", [1, 2, 5, 10, 80, 1000, pytest.param(10_000, marks=pytest.mark.slow)]
)
def test_dense_recursion(dense_value_and_slope, num_steps):
    _, _, hessian, start = draw()
    hessian, start = hessian.astype(np.float32), start.astype(np.float32)
    # Of the rounded matrix: rounding moves its least eigenvalue by a part in 10^4.
    eigenvalues, vectors = np.linalg.eigh(hessian.astype(float))
    step_sizes = np.concatenate(
        [np.geomspace(1e-4, 10, 22), 1 / eigenvalues[::5], [0.0229, 0.03143]]
    )
    step_sizes = step_sizes.astype(np.float32)
    value, slope = (
        np.asarray(x) for x in dense_value_and_slope(hessian, start, step_sizes, num_steps)
    )
    expected_value, expected = closed_form(
        eigenvalues, vectors.T @ start.astype(float), step_sizes, num_steps
    )
    assert np.max(np.abs(slope - expected) / np.maximum(1, np.abs(expected))) <= 1e-6
    np.testing.assert_allclose(value, expected_value.astype(float), atol=1e-5)


@pytest.fixture(scope="module")
def dense_value_and_slope():
    """G and G' of one dense quadratic at `[step sizes]`."""
    return jax.jit(
        jax.vmap(jax.value_and_grad(dense_log_loss_after_steps, 2), (None, None, 0, None))
    )


def test_dense_derivatives_in_hessian_and_start():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        matrices, vectors = rng.standard_normal((2, 6, 6)), rng.standard_normal((2, 6))
        hessian, direction = (jnp.array(matrix.T @ matrix) for matrix in matrices)
        point, moves = (hessian, jnp.array(vectors[0])), (direction, jnp.array(vectors[1]))

        def naive(hessian, w):
            for _ in range(7):
                w = w - 0.3 * (hessian @ w)
            return jnp.log(w @ hessian @ w / 2) / 7

        stable = lambda hessian, start: dense_log_loss_after_steps(hessian, start, 0.3, 7)
        got, expected = (
            jax.jit(lambda x, dx, f=f: jax.jvp(f, x, dx))(point, moves) for f in (stable, naive)
        )
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_dense_recursion_in_float64_and_forward_mode():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        matrix, start = rng.standard_normal((6, 6)), rng.standard_normal(6)
        hessian = matrix.T @ matrix
        eigenvalues, vectors = np.linalg.eigh(hessian)
        step_sizes = np.array([1e-3, 0.05, 0.3, 4.0])
        value, slope = closed_form(eigenvalues, vectors.T @ start, step_sizes, 300)
        objective = lambda eta, t: dense_log_loss_after_steps(hessian, start, eta, t)
        tangent = lambda eta, t: jax.jvp(
            lambda eta: objective(eta, t), (eta,), (jnp.ones_like(eta),)
        )
        # t is traced here.
        got_value, got_slope = jax.vmap(jax.jit(tangent), (0, None))(step_sizes, 300)
        np.testing.assert_allclose(got_value, value.astype(float), rtol=1e-9)
        np.testing.assert_allclose(got_slope, slope.astype(float), rtol=1e-9)
        np.testing.assert_allclose(
            jax.vmap(jax.grad(lambda eta: objective(eta, 300)))(step_sizes), got_slope, rtol=1e-9
        )


def test_plain_backpropagation_overflows_where_the_stable_slope_does_not(value_and_slope):
    eigenvalues, coefficients, _, _ = draw()

    def plain(eta, num_steps):
        return jax.grad(
            lambda eta: (
                jnp.log(loss_after_steps(eigenvalues, coefficients, eta, num_steps)) / num_steps
            )
        )(eta)

    for eta, num_steps in ((1.0, 80), (0.1, 80), (0.04, 1000), (0.1, 1000)):
        assert np.isnan(plain(eta, num_steps)) or plain(eta, num_steps) == 0
        _, expected = closed_form(eigenvalues, coefficients, np.array([eta], np.float32), num_steps)
        _, slope = value_and_slope(
            eigenvalues, coefficients, np.array([eta], np.float32), num_steps
        )
        np.testing.assert_allclose(slope, expected.astype(float), rtol=1e-5)
    # Below 2 / L = .0319 nothing overflows, and the slowest mode (lambda = .0105) has kept (1 - .02
    # lambda)^2000 = .66 of its loss at t = 1000: there the plain gradient is finite and right.
    _, expected = closed_form(eigenvalues, coefficients, np.array([0.02], np.float32), 1000)
    np.testing.assert_allclose(plain(0.02, 1000), expected[0], rtol=1e-4)


def test_real_powers_of_negative_factors_have_no_derivative(value_and_slope):
    """F written with `(1 - eta lambda)^(2 t)` as `exp(2 t log(1 - eta lambda))`:
    nan once eta > 1 / lambda_max.
    """
    eigenvalues, coefficients, _, _ = draw()

    def by_logarithms(eta, num_steps):
        powers = jnp.exp(2 * num_steps * jnp.log(1 - eta * eigenvalues))
        return jnp.log(jnp.sum(coefficients**2 * eigenvalues / 2 * powers)) / num_steps

    for eta, num_steps in ((1.0, 80), (0.02, 1000)):
        assert np.isnan(jax.grad(by_logarithms)(eta, num_steps))
        _, slope = value_and_slope(
            eigenvalues, coefficients, np.array([eta], np.float32), num_steps
        )
        _, expected = closed_form(eigenvalues, coefficients, np.array([eta], np.float32), num_steps)
        np.testing.assert_allclose(slope, expected.astype(float), rtol=1e-6)


def test_naive_objective_is_that_of_the_task():
    eigenvalues, coefficients = np.array([0.5, 2.0], np.float32), np.array([1.0, -1.0], np.float32)
    task = quadratic_task(eigenvalues, coefficients)
    params = task.init(jax.random.key(0))
    for _ in range(3):
        params = params - 0.3 * jax.grad(lambda params: task.loss(params, None, ())[0])(params)
    np.testing.assert_allclose(
        task.loss(params, None, task.sample_batch((), None, "train"))[0],
        loss_after_steps(eigenvalues, coefficients, 0.3, 3),
        rtol=1e-6,
    )


@pytest.mark.parametrize("function", [log_loss_after_steps, loss_after_steps])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((np.array([-1.0, 1.0]), np.ones(2), 0.1, 5), "eigenvalues"),
        ((np.ones((2, 2)), np.ones(2), 0.1, 5), "eigenvalues"),
        ((np.ones(2), np.ones(3), 0.1, 5), "coefficients"),
        ((np.ones(2), np.ones(2), 0.1, 0), "num_steps"),
    ],
)
def test_bad_input(function, arguments, name):
    with pytest.raises(ValueError, match=name):
        function(*arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((np.ones((2, 3)), np.ones(2), 0.1, 5), "hessian"),
        ((np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(2), 0.1, 5), "hessian must be symmetric"),
        ((-np.eye(2), np.ones(2), 0.1, 5), "hessian must have no negative eigenvalue"),
        ((np.eye(2), np.ones(3), 0.1, 5), "start"),
        ((np.eye(2), np.ones(2), 0.1, -1), "num_steps"),
    ],
)
def test_bad_dense_input(arguments, name):
    with pytest.raises(ValueError, match=name):
        dense_log_loss_after_steps(*arguments)
