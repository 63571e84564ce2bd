import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.analytic.noisy_quadratic import (
    Moments,
    NoisyQuadratic,
    chebyshev_curvatures,
    expected_losses,
    initial_moments,
    moments_step,
    noisy_quadratic_family,
    noisy_quadratic_task,
)

CURVATURES = np.array([2.0, 0.5, 0.05], np.float32)
NOISE = np.array([0.5, 1.0, 4.0], np.float32)
MEAN = np.array([1.0, -2.0, 3.0], np.float32)
VARIANCE = np.array([0.1, 0.0, 1.0], np.float32)
RATES = np.array([0.3, 0.5, 0.1, 0.4, 0.2, 0.3], np.float32)
MOMENTA = np.array([0.0, 0.9, 0.5, 0.3, 0.8, 0.6], np.float32)


def small_problem():
    return NoisyQuadratic(CURVATURES, NOISE, MEAN, VARIANCE)


def test_chebyshev_curvatures_are_the_zeros_of_the_polynomial():
    x = (np.asarray(chebyshev_curvatures(7, 0.5, 4.5), np.float64) - 2.5) / 2.0
    np.testing.assert_allclose(np.polynomial.chebyshev.chebval(x, [0] * 7 + [1]), 0, atol=2e-5)
    assert np.all(np.diff(x) < 0)


def test_expected_losses_equal_the_means_and_variances_of_theorem_1():
    """The paper's five recursions, written out, in float64 NumPy."""
    h, s2 = CURVATURES.astype(float), NOISE.astype(float)
    e, ev, v, vv, cov = (
        MEAN.astype(float),
        np.zeros(3),
        VARIANCE.astype(float),
        np.zeros(3),
        np.zeros(3),
    )
    losses = [np.sum(h * (e**2 + v)) / 2]
    for a, mu in zip(RATES.astype(float), MOMENTA.astype(float), strict=True):
        ev = mu * ev - a * h * e
        e = e + ev
        new_vv = mu**2 * vv + (a * h) ** 2 * v - 2 * mu * a * h * cov + (a * h) ** 2 * s2
        v, cov = v + new_vv + 2 * (mu * cov - a * h * v), mu * cov - a * h * v + new_vv
        vv = new_vv
        losses.append(np.sum(h * (e**2 + v)) / 2)
    np.testing.assert_allclose(expected_losses(small_problem(), RATES, MOMENTA), losses, rtol=2e-6)


def test_theorem_1_against_100000_sampled_trajectories():
    problem = small_problem()
    task = noisy_quadratic_task(problem)

    def trajectory(key):
        key_init, key_steps = jax.random.split(key)
        params = task.init(key_init)

        def step(carry, i_pair):
            params, velocity = carry
            i, rate, mu = i_pair
            batch = task.sample_batch((), jax.random.fold_in(key_steps, i), "train")
            grad = jax.grad(lambda params: task.loss(params, key, batch)[0])(params)
            velocity = mu * velocity - rate * grad
            params = params + velocity
            return (params, velocity), task.loss(
                params, key, task.sample_batch((), key, "outer_valid")
            )[0]

        xs = (jnp.arange(len(RATES)), RATES, MOMENTA)
        (params, velocity), losses = jax.lax.scan(step, (params, jnp.zeros_like(params)), xs)
        return losses, params, velocity

    num = 100_000
    losses, params, velocity = jax.jit(jax.vmap(trajectory))(
        jax.random.split(jax.random.key(0), num)
    )
    expected = np.asarray(expected_losses(problem, RATES, MOMENTA))[1:]
    z = (np.mean(losses, 0, dtype=float) - expected) / (
        np.std(losses, 0, dtype=float) / np.sqrt(num)
    )
    assert np.max(np.abs(z)) < 4
    moments = initial_moments(problem)
    for pair in zip(RATES, MOMENTA, strict=True):
        moments = moments_step(problem, moments, *pair)
    samples = Moments(
        CURVATURES * params**2, CURVATURES * velocity**2, CURVATURES * params * velocity
    )
    for sample, moment in zip(samples, moments, strict=True):
        z = (np.mean(sample, 0, dtype=float) - moment) / (
            np.std(sample, 0, dtype=float) / np.sqrt(num)
        )
        assert np.max(np.abs(z)) < 4


def test_only_the_training_split_is_noisy():
    task = noisy_quadratic_task(small_problem())
    keys = jax.random.split(jax.random.key(1), 20_000)
    noise = jax.vmap(lambda key: task.sample_batch((), key, "train"))(keys)
    np.testing.assert_allclose(np.var(noise, 0), NOISE, rtol=0.05)
    for split in ("inner_valid", "outer_valid", "test"):
        np.testing.assert_array_equal(task.sample_batch((), keys[0], split), np.zeros(3))
    loss, _ = task.loss(jnp.ones(3), keys[0], jnp.zeros(3))
    np.testing.assert_allclose(loss, CURVATURES.sum() / 2, rtol=1e-6)


def test_family_maps_over_particles():
    family = noisy_quadratic_family(small_problem())

    def start(key):
        return family.task(family.sample(key)).init(key)

    starts = jax.vmap(start)(jax.random.split(jax.random.key(2), 20_000))
    np.testing.assert_allclose(np.mean(starts, 0), MEAN, atol=0.03)
    np.testing.assert_allclose(np.var(starts, 0), VARIANCE, rtol=0.05, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"curvatures": [-1.0, 1.0, 1.0]}, "curvatures"),
        ({"curvatures": [[1.0], [1.0], [1.0]]}, "curvatures"),
        ({"noise_variances": [0.0, -1.0, 0.0]}, "noise_variances"),
        ({"noise_variances": [0.0, 1.0]}, "noise_variances"),
        ({"mean": [0.0, np.nan, 0.0]}, "mean"),
        ({"variance": [0.0, 0.0, -1.0]}, "variance"),
    ],
)
def test_bad_problem(change, name):
    arguments = {
        "curvatures": CURVATURES,
        "noise_variances": NOISE,
        "mean": MEAN,
        "variance": VARIANCE,
    }
    with pytest.raises(ValueError, match=name):
        NoisyQuadratic(**{**arguments, **{key: np.array(value) for key, value in change.items()}})


@pytest.mark.parametrize(
    ("rates", "momenta", "name"),
    [
        (np.zeros(0), np.zeros(0), "learning_rates"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "learning_rates"),
        (np.ones(3), np.zeros(2), "momenta"),
        (np.ones(3), np.ones(3), "momenta"),
    ],
)
def test_bad_schedule(rates, momenta, name):
    with pytest.raises(ValueError, match=name):
        expected_losses(small_problem(), rates, momenta)


@pytest.mark.parametrize(
    ("arguments", "name"), [((0, 1.0, 2.0), "dim"), ((3, 0.0, 2.0), "h_min"), ((3, 3, 2), "h_max")]
)
def test_bad_spectrum(arguments, name):
    with pytest.raises(ValueError, match=name):
        chebyshev_curvatures(*arguments)
