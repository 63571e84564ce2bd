"""Fig 4 of Metz et al. 2019: variances of RP and ES in the double well, and over outer-training."""

import json

import numpy as np
import pytest

from learned_opt_lab.papers.metz2019 import gradient_variance
from learned_opt_lab.papers.metz2019.double_well import LEARNING_RATE, START


@pytest.fixture(scope="module")
def variances():
    config = gradient_variance.Config()
    return gradient_variance.double_well_variances(config)


def test_variance_ratios_of_the_double_well(variances):
    ratios = variances["reparameterization"] / variances["evolution_strategies"]
    for ratio, expected in zip(ratios, (6e-5, 0.35, 47, 2.3e4), strict=True):
        assert expected / 2 < ratio < expected * 2


def final_loss_and_slope(theta, num_steps):
    """NumPy, with the derivative carried along by hand."""
    w, v, dw, dv = START, 0.0, 0.0, 0.0
    for _ in range(num_steps):
        slope, curvature = 4 * w**3 - 21 * w**2 + 24 * w, 12 * w**2 - 42 * w + 24
        v, dv = theta * v - LEARNING_RATE * slope, v + theta * dv - LEARNING_RATE * curvature * dw
        w, dw = w + v, dw + dv
    return (w - 4) * (w - 3) * w**2, (4 * w**3 - 21 * w**2 + 24 * w) * dw


def test_variances_of_the_double_well_equal_numpy(variances):
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(20_000)
    for i, num_steps in enumerate((5, 10, 20)):
        plus, slope_plus = np.vectorize(final_loss_and_slope)(0.8 + noise, num_steps)
        minus, slope_minus = np.vectorize(final_loss_and_slope)(0.8 - noise, num_steps)
        rp, es = (slope_plus + slope_minus) / 2, (plus - minus) / (2 * 0.01**2) * noise
        assert variances["reparameterization"][i] == pytest.approx(rp.var(ddof=1), rel=0.1)
        assert variances["evolution_strategies"][i] == pytest.approx(es.var(ddof=1), rel=0.1)


def test_summary_compares_the_fresh_theta_and_the_last_half():
    rows = [{"var_rp": 10.0**i, "var_es": 2.0} for i in range(20)]
    rows[-1]["var_rp"] = None
    summary = gradient_variance._summary(rows)
    assert summary["var_rp_first"] == pytest.approx(1)
    assert summary["var_es_growth"] == pytest.approx(1)
    assert summary["num_infinite_rp"] == 1
    assert summary["var_rp_growth"] > 1e13


def test_bad_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_outer_steps at least 2"):
        gradient_variance.run(gradient_variance.Config(num_outer_steps=1), tmp_path)


@pytest.mark.usefixtures("optimized")
def test_over_outer_training_rp_grows_and_es_stays(tmp_path):
    result = gradient_variance.run(gradient_variance.Config(), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["lengths"] == [5, 10, 20, 40]
    learned = result["learned_optimizer"]
    assert learned["var_rp_growth"] > 1e3
    assert 1e-2 < learned["var_es_growth"] < 1e2
    assert (tmp_path / "learned_optimizer.png").stat().st_size > 20_000
