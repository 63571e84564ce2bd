import json

import numpy as np

from learned_opt_lab.papers.wu2018.noisy_quadratic import nqm_horizons, nqm_schedules


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
