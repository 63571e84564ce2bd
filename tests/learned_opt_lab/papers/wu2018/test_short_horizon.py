import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from learned_opt_lab.papers.wu2018.noisy_quadratic.short_horizon import (
    coordinate_losses,
    fixed_schedule,
    greedy_pair,
    greedy_schedule,
    optimized_schedule,
    paper_problem,
)
from tasks.analytic.noisy_quadratic import (
    NoisyQuadratic,
    chebyshev_curvatures,
    expected_loss,
    expected_losses,
    initial_moments,
    moments_step,
)


def quadratic(dim=6, noisy=True):
    h = np.asarray(chebyshev_curvatures(dim, 0.1, 10.0))
    return NoisyQuadratic(h, (1 / h if noisy else 0 * h), mean=np.ones(dim), variance=np.zeros(dim))


def test_theorem_2_against_a_numerical_minimizer():
    with jax.enable_x64(True):
        problem = quadratic()
        loss = jax.jit(lambda x, moments: expected_loss(moments_step(problem, moments, x[0], x[1])))
        moments = initial_moments(problem)
        for _ in range(8):
            pair = np.array(greedy_pair(problem, moments))
            found = scipy.optimize.minimize(
                lambda x, moments=moments: float(loss(jnp.asarray(x), moments)),
                [pair[0] + 0.01, pair[1] + 0.05],
                tol=1e-14,
            )
            assert float(loss(jnp.asarray(pair), moments)) <= found.fun * (1 + 1e-9)
            if np.any(moments.velocity):  # At rest the momentum does nothing.
                np.testing.assert_allclose(pair, found.x, atol=1e-5)
            moments = moments_step(problem, moments, *pair)


def one_coordinate(dim=1):
    ones = np.ones(dim)
    return NoisyQuadratic(3.0 * ones, 0.7 * ones, mean=1.5 * ones, variance=0.4 * ones)


def test_theorems_3_and_4_exactly():
    with jax.enable_x64(True):
        problem = one_coordinate()
        schedule = greedy_schedule(problem, 30, momentum=False)
        start, noise = 1.5**2 + 0.4, 0.7
        energies = start * noise / (np.arange(31) * start + noise)
        np.testing.assert_allclose(2 * schedule.losses / 3.0, energies, rtol=1e-12)
        np.testing.assert_allclose(
            schedule.learning_rates, energies[:-1] / (3.0 * (energies[:-1] + noise)), rtol=1e-12
        )


def test_greedy_is_optimal_on_spherical_problems():
    with jax.enable_x64(True):
        problem = one_coordinate(dim=4)
        greedy = greedy_schedule(problem, 12, momentum=False)

        def loss(log_rates):
            return expected_losses(problem, jnp.exp(log_rates), jnp.zeros(12))[-1]

        value_and_grad = jax.jit(jax.value_and_grad(loss))
        _, slope = value_and_grad(jnp.log(greedy.learning_rates))
        np.testing.assert_allclose(slope, 0, atol=1e-12)
        found = scipy.optimize.minimize(
            lambda x: jax.tree.map(np.asarray, value_and_grad(jnp.asarray(x))),
            np.full(12, np.log(0.1)),
            jac=True,
        )
        np.testing.assert_allclose(found.fun, greedy.losses[-1], rtol=1e-6)


def test_greedy_schedule_of_the_paper():
    schedule = greedy_schedule(paper_problem(), 250)
    np.testing.assert_allclose(schedule.losses[0], 29514.75, atol=0.01)
    np.testing.assert_allclose(schedule.losses[-1], 63.884, atol=0.01)
    np.testing.assert_allclose(schedule.losses[jnp.array([50, 100])], [130.8, 95.5], atol=0.06)
    without = greedy_schedule(paper_problem(), 250, momentum=False)
    np.testing.assert_allclose(without.losses[-1], 65.10, atol=0.01)
    assert np.all(np.asarray(without.momenta) == 0)


def test_fixed_schedule_of_the_paper():
    schedule = fixed_schedule(paper_problem(), 250)
    np.testing.assert_allclose(schedule.losses[-1], 42.199, atol=0.01)
    np.testing.assert_allclose(schedule.learning_rates[0] * 118, 0.01016, rtol=0.01)
    np.testing.assert_allclose(schedule.momenta[0], 0.9490, atol=1e-3)


@pytest.mark.slow
def test_optimized_schedule_of_the_paper():
    problem = paper_problem()
    schedule = optimized_schedule(problem, 250)
    assert 4.1 <= schedule.losses[-1] <= 4.40
    assert np.max(schedule.learning_rates) <= 2 / 118 * (1 + 1e-6)
    losses = np.asarray(coordinate_losses(problem, schedule.learning_rates, schedule.momenta))
    np.testing.assert_allclose(losses.sum(1), schedule.losses, rtol=1e-4)
    assert losses[10, :50].sum() >= 0.9 * losses[0, :50].sum()
    assert losses[-1, -50:].sum() <= 0.5 * losses[0, -50:].sum()


def test_optimized_beats_greedy_with_noise_and_equals_it_without():
    noisy = quadratic(32)
    greedy, optimized = greedy_schedule(noisy, 60), optimized_schedule(noisy, 60, num_updates=400)
    assert optimized.losses[-1] < 0.6 * greedy.losses[-1]
    assert optimized.losses[5] > greedy.losses[5]
    with jax.enable_x64(True):
        exact = quadratic(32, noisy=False)
        greedy = greedy_schedule(exact, 12)
        optimized = optimized_schedule(
            exact, 12, max_learning_rate=2.0, start=(0.25, 0.5), num_updates=1500
        )
        assert greedy.losses[-1] <= optimized.losses[-1] * 1.001
        np.testing.assert_allclose(optimized.losses[-1], greedy.losses[-1], rtol=0.01)


@pytest.mark.parametrize("schedule", [greedy_schedule, fixed_schedule, optimized_schedule])
def test_zero_steps(schedule):
    with pytest.raises(ValueError, match="num_steps"):
        schedule(quadratic(), 0)


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"max_learning_rate": 0.0}, "max_learning_rate"),
        ({"start": (0.1, 1.0)}, "start"),
        ({"num_updates": 0}, "num_updates"),
    ],
)
def test_bad_optimized_schedule(kwargs, name):
    with pytest.raises(ValueError, match=name):
        optimized_schedule(quadratic(), 5, **kwargs)
