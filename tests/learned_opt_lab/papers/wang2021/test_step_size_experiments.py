import json

import numpy as np
import pytest

from learned_opt_lab.papers.wang2021 import step_size_generalization, step_size_meta_gradient

# (n, sigma): |w - w*|^2 by train-by-train and by train-by-validation,
# d = 200, means over 40 tasks of their own.
TABLE = {(100, 0.5): (0.750, 0.693), (100, 1.0): (1.524, 0.807), (100, 2.0): (4.293, 0.920)}
LARGE_TABLE = {(800, 1.0): (0.327, 0.259), (3200, 1.0): (0.068, 0.071)}


@pytest.fixture(scope="module")
def meta_gradient(tmp_path_factory):
    out = tmp_path_factory.mktemp("meta_gradient")
    config = step_size_meta_gradient.Config(horizons=(10, 80, 1000), num_step_sizes=60)
    return step_size_meta_gradient.run(config, out), out


def test_meta_gradient_is_stable_where_backpropagation_is_not(meta_gradient):
    result, out = meta_gradient
    np.testing.assert_allclose(result["at_start"]["naive_gradient"], 6.7e117, rtol=0.01)
    np.testing.assert_allclose(result["at_start"]["log_gradient"], 23.80, atol=0.01)
    for row in result["gradient"]:
        assert row["stable_max_error"] <= 1e-6
        assert row["stable_finite_at_reciprocal_eigenvalues"]
    at_one = next(row for row in result["backpropagation"] if row["step_size"] == 1.0)
    assert at_one["float32"] == at_one["float32_by_logarithms"] == "nan"
    below_edge = next(row for row in result["backpropagation"] if row["step_size"] == 0.02)
    assert below_edge["float32_by_logarithms"] == "nan"
    np.testing.assert_allclose(below_edge["float32"], below_edge["closed_form"], rtol=1e-4)
    at_thousand = next(
        row
        for row in result["backpropagation"]
        if row["num_steps"] == 1000 and row["step_size"] == 0.1
    )
    assert at_thousand["float32"] == at_thousand["float64"] == "nan"
    assert json.loads((out / "result.json").read_text()) == result
    assert (out / "meta_gradient.png").stat().st_size > 10_000


def test_naive_gradient_is_exponential_on_both_sides(meta_gradient):
    result, _ = meta_gradient
    for row in result["growth_of_naive_gradient"]:
        # |F'| is t times an exponential,
        # hence the log 2 over the 20,000 steps between the two horizons.
        np.testing.assert_allclose(row["rate"], row["limit"] + np.log(2) / 20_000, rtol=1e-3)
        assert (row["rate"] > 0) == (row["step_size_times_L_over_2"] > 1)
    longest = result["log10_naive_gradient"][-1]
    assert longest["num_steps"] == 1_000_000
    # Below 2 / L = .0319 the smallest eigenvalue, .0105, is what remains longest.
    assert -290 < longest["least_below_two_over_L"] < -230
    assert longest["largest_above"] > 1e6


def test_meta_descent_on_the_log_objective_alone_arrives(meta_gradient):
    result, out = meta_gradient
    ends, best = result["meta_descent"], result["best_step_size"]
    np.testing.assert_allclose(best, 0.03143, atol=1e-5)
    np.testing.assert_allclose(ends["log, stable"], best, rtol=0.01)
    for name, end in ends.items():
        if name != "log, stable":
            assert end == "nan" or abs(end / best - 1) > 0.01
    assert (out / "meta_descent.png").stat().st_size > 10_000


def check_table(result, table):
    for cell in result["table"]:
        expected = table[cell["num_samples"], cell["noise_std"]]
        for name, value in zip(step_size_generalization.CHOICES, expected, strict=True):
            assert abs(cell[name]["mean"] - value) <= 3 * cell[name]["standard_error"]


@pytest.mark.usefixtures("optimized")
def test_validation_wins_with_few_samples(tmp_path):
    result = step_size_generalization.run(
        step_size_generalization.Config(cells=tuple(TABLE)[:2]), tmp_path
    )
    check_table(result, TABLE)
    for cell in result["table"]:
        assert cell["difference"]["mean"] > 2 * cell["difference"]["standard_error"]
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (tmp_path / "generalization.png").stat().st_size > 10_000


@pytest.mark.usefixtures("optimized")
def test_the_whole_table_ends_in_a_tie(tmp_path):
    result = step_size_generalization.run(step_size_generalization.Config(), tmp_path)
    check_table(result, TABLE | LARGE_TABLE)
    tie = result["table"][-1]["difference"]
    assert abs(tie["mean"]) <= 3 * tie["standard_error"]


@pytest.mark.usefixtures("optimized")
def test_stochastic_gradient_descent_too(tmp_path):
    config = step_size_generalization.Config(dim=20, cells=((10, 1.0),), num_tasks=40, batch_size=5)
    (cell,) = step_size_generalization.run(config, tmp_path)["table"]
    assert cell["difference"]["mean"] > 2 * cell["difference"]["standard_error"]
