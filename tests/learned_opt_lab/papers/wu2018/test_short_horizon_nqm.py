import json

import jax
import numpy as np
import pytest

from learned_opt_lab.papers.wu2018.noisy_quadratic import nqm_horizons, nqm_schedules
from learned_opt_lab.papers.wu2018.noisy_quadratic.least_loss import least_losses
from learned_opt_lab.papers.wu2018.noisy_quadratic.short_horizon import (
    HIGHEST_CURVATURE,
    LOWEST_CURVATURE,
    greedy_schedule,
    paper_problem,
)

ENDS = (LOWEST_CURVATURE, HIGHEST_CURVATURE)


def test_without_noise_greedy_has_the_least_loss_at_every_step():
    """Nothing is gained by looking ahead, down to thirteen orders below the start."""
    least = least_losses(1000, *ENDS, 250)
    with jax.enable_x64(True):
        greedy = np.asarray(greedy_schedule(paper_problem(stochastic=False), 250).losses)
    np.testing.assert_allclose(greedy, least, rtol=1e-9)
    np.testing.assert_allclose(least[-1], 3.7437e-9, rtol=1e-4)


def test_the_least_loss_is_that_of_the_best_polynomial():
    """By least squares over polynomials with p(0) = 1, in a basis that is orthogonal enough."""
    dim, degree = 40, 6
    i = np.arange(1, dim + 1)
    x = np.cos((2 * i - 1) * np.pi / (2 * dim))
    h = sum(ENDS) / 2 + (ENDS[1] - ENDS[0]) / 2 * x
    basis = np.polynomial.chebyshev.chebvander(x, degree)
    zero = np.polynomial.chebyshev.chebvander(np.array([-sum(ENDS) / (ENDS[1] - ENDS[0])]), degree)
    # All polynomials with p(0) = 1 are one of them plus the null space of p -> p(0).
    null = np.linalg.svd(zero)[2][1:].T
    first = np.linalg.pinv(zero)[:, 0]
    root = np.sqrt(h / 2)[:, None]
    free = np.linalg.lstsq(root * (basis @ null), -root[:, 0] * (basis @ first), rcond=None)[0]
    values = basis @ (first + null @ free)
    expected = np.sum(h * values**2) / 2
    np.testing.assert_allclose(least_losses(dim, *ENDS, degree)[-1], expected, rtol=1e-9)


def test_too_few_zeros_are_refused():
    with pytest.raises(ValueError, match="dim must be above"):
        least_losses(10, *ENDS, 10)


def test_horizons(tmp_path):
    result = nqm_horizons.run(nqm_horizons.Config(), tmp_path)
    rows = result["horizons"]
    best = [row["fixed"]["best_rate"] for row in rows]
    np.testing.assert_allclose(best, [0.90, 0.46, 0.33, 0.19], atol=0.03)
    np.testing.assert_allclose(np.array(best), 10 ** (np.array([-1, -7, -10, -14]) / 20), rtol=1e-6)
    # Between the grid's points, to a hundredth of its spacing.
    minimizers = [row["fixed"]["minimizer"] for row in rows]
    np.testing.assert_allclose(minimizers, [0.9356, 0.4530, 0.3151, 0.1902], rtol=5e-3)
    assert all(row["decay_over_fixed"] >= 2 for row in rows)
    assert all(row["with_decay"]["minimizer"] >= 2 * row["fixed"]["minimizer"] for row in rows)
    picture = result["two_dimensional"]
    assert (
        picture["aggressive"]["after_fixed_steps"]
        > 2 * picture["conservative"]["after_fixed_steps"]
    )
    assert picture["aggressive_then_decayed"]["at_end"] < 0.5 * picture["conservative"]["at_end"]
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (tmp_path / "horizons.png").stat().st_size > 10_000
    assert (tmp_path / "two_dimensional.png").stat().st_size > 10_000


@pytest.mark.usefixtures("optimized")
def test_schedules(tmp_path):
    result = nqm_schedules.run(nqm_schedules.Config(), tmp_path)
    stochastic, deterministic = result["stochastic"], result["deterministic"]
    np.testing.assert_allclose(stochastic["initial"], 29514.75, atol=0.01)
    np.testing.assert_allclose(stochastic["greedy"], 63.884, atol=0.01)
    np.testing.assert_allclose(stochastic["fixed"], 42.199, atol=0.01)
    assert 4.1 <= stochastic["optimized"] <= 4.40
    shape = stochastic["optimized_shape"]
    assert shape["high_curvature_at_step_10_over_start"] >= 0.9
    assert shape["low_curvature_at_end_over_start"] <= 0.5
    assert deterministic["greedy"] <= deterministic["optimized"] * 1.001
    np.testing.assert_allclose(deterministic["greedy"], 3.7e-9, rtol=0.02)
    for row in deterministic["horizons"]:
        assert row["greedy"] <= row["optimized"] * 1.001
        if row["num_steps"] <= 50:
            np.testing.assert_allclose(row["optimized_over_greedy"], 1, atol=0.01)
        np.testing.assert_allclose(row["greedy_over_least"], 1, atol=1e-9)
    assert (tmp_path / "schedules.png").stat().st_size > 10_000


def test_small_schedules_write_their_files(tmp_path):
    config = nqm_schedules.Config(
        dim=64, num_steps=40, num_extreme=4, num_updates=50, deterministic_horizons=(10,)
    )
    result = nqm_schedules.run(config, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    np.testing.assert_allclose(result["stochastic"]["initial"], 59.0295 * 64 / 2, rtol=1e-5)
    assert result["stochastic"]["optimized"] < result["stochastic"]["greedy"]
    assert all(row["optimized_over_greedy"] >= 0.999 for row in result["deterministic"]["horizons"])
