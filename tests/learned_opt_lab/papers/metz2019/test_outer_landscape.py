"""Fig 2 of Metz et al. 2019: the double well's numbers, diverging trajectories, slices."""

import json

import numpy as np
import pytest

from learned_opt_lab.papers.metz2019 import outer_landscape
from learned_opt_lab.papers.metz2019.double_well import BARRIER, START, rate_landscape
from learned_opt_lab.papers.metz2019.outer_landscape import Config, local_minima, roughness


@pytest.fixture(scope="module")
def well():
    return outer_landscape.double_well(Config(lengths=(10, 50), num_settle_steps=1000))


def test_the_basin_switches_near_804(well):
    assert well["numbers"]["first_switch"] == pytest.approx(0.804, abs=1e-3)
    assert well["numbers"]["num_switches"] == 9


def test_minima(well):
    np.testing.assert_allclose(well["numbers"]["minima"], [0, 3.5687], atol=1e-4)
    np.testing.assert_allclose(well["numbers"]["minimum_losses"], [0, -3.1238], atol=1e-4)


def test_gradients_grow_with_the_unroll(well):
    steepest = well["numbers"]["max_abs_gradient"]
    assert steepest["10"] == pytest.approx(407, rel=0.01)
    assert steepest["50"] > 1e4


def test_over_the_learning_rate_the_loss_breaks_up_as_well():
    numbers = outer_landscape.double_well_rates(Config())["numbers"]
    assert [numbers["local_minima"][str(n)] for n in Config().lengths] == [3, 5, 14, 25, 36]
    assert numbers["num_switches"] == 3
    assert numbers["first_rate_in_the_far_well"] == pytest.approx(3.007e-3, rel=3e-3)
    # Neighbours 0.17 % apart end in other wells, which differ by 3.12, or on the way to them.
    jumps = numbers["largest_jump_between_neighbours"]
    assert jumps["5"] < 0.6
    assert jumps["100"] == pytest.approx(3.1238, rel=0.01)


def test_plain_descent_has_one_switch_where_its_first_step_meets_the_barrier():
    rates = np.geomspace(1e-2, 0.07, 2001)
    numbers = rate_landscape(rates, 0.0, (20,), 1000)["numbers"]
    slope = 4 * START**3 - 21 * START**2 + 24 * START
    assert numbers["num_switches"] == 1
    at = numbers["first_rate_in_the_far_well"]
    assert at == pytest.approx((START - BARRIER) / slope, rel=1e-3)


def test_measures_of_roughness():
    x = np.linspace(-1, 1, 101)
    assert roughness(x) == pytest.approx(0, abs=1e-10)
    assert roughness(x**2) == pytest.approx(99 * 2 * 0.02**2)
    assert local_minima(np.cos(3 * np.pi * x)) == 2
    assert roughness(np.cos(30 * x)) > 10 * roughness(np.cos(3 * x))


def test_bad_config_is_refused(tmp_path):
    few = ({"grid": 1}, {"num_rates": 1}, {"num_networks": 0}, {"num_well_rates": 1})
    for config in (Config(**each) for each in few):
        with pytest.raises(ValueError, match="at least"):
            outer_landscape.run(config, tmp_path)


@pytest.mark.usefixtures("optimized")
def test_all_panels(tmp_path):
    config = Config(num_rates=8, num_outer_steps=5, num_points=41, grid=5)
    result = outer_landscape.run(config, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == result
    spread, of_networks = (
        result["adam"][f"relative_spread{which}"] for which in ("", "_of_networks")
    )
    # Adam's first step is the rate times a sign.
    rates = np.geomspace(*config.rates, config.num_rates)
    expected = np.abs(rates - rates.mean()).mean() / rates.mean()
    np.testing.assert_allclose(of_networks["1"], expected, rtol=0.01)
    assert spread["1"] == pytest.approx(expected, rel=0.01)
    assert spread["40"] > 10 * spread["1"]
    assert spread["40"] == np.median(of_networks["40"])
    assert min(of_networks["40"]) > spread["1"]
    assert set(result["learned_optimizer"]["roughness"]) == {"5", "10", "20"}
    assert (tmp_path / "figure_2.png").stat().st_size > 100_000
    assert (tmp_path / "learning_rates.png").stat().st_size > 50_000
