"""Fig 1 of MARTHE: the numbers on both surfaces."""

import json

import pytest

from learned_opt_lab.papers.donini2019 import hypergradient_surfaces


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("surfaces")
    result = hypergradient_surfaces.run(hypergradient_surfaces.Config(), out)
    assert json.loads((out / "result.json").read_text())["beale"] == result["beale"]
    assert (out / "figure_1.png").stat().st_size > 50_000
    return result


@pytest.mark.parametrize(
    ("method", "best_losses"),
    [("HD", (0.08949, 9.627e-3, 1.069e-4)), ("RTHO", (5.147e-3, 2.258e-4, 6.940e-7))],
)
def test_best_losses_on_beale(result, method, best_losses):
    rows = {row["beta"]: row for row in result["beale"][method]}
    for beta, expected in zip((1e-7, 1e-6, 1e-5), best_losses, strict=True):
        assert rows[beta]["best_loss"] == pytest.approx(expected, rel=0.002)
        assert not rows[beta]["diverged"]


def test_at_the_largest_beta_rtho_diverges_and_hd_does_not(result):
    assert result["beale"]["RTHO"][-1]["diverged"]
    assert result["beale"]["RTHO"][-1]["num_non_finite"] > 0
    assert result["beale"]["HD"][-1]["best_loss"] == pytest.approx(3.8e-7, rel=0.02)
    assert not result["beale"]["MARTHE"][-1]["diverged"]


def test_on_bukin_rtho_overshoots_and_is_stuck_where_the_others_reach_the_floor(result):
    rtho = result["bukin"]["RTHO"]
    assert rtho["max_rate"] == pytest.approx(0.49, abs=0.01)
    assert rtho["final_rate"] == 0
    assert rtho["final_loss"] == pytest.approx(0.53, abs=0.01)
    assert result["bukin"]["HD"]["max_rate"] == pytest.approx(0.029, abs=5e-4)
    for method in ("HD", "mu = .9", "MARTHE"):
        assert result["bukin"][method]["final_loss"] == pytest.approx(0.181, abs=1e-3)


def test_bad_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_steps must be >= 2"):
        hypergradient_surfaces.run(hypergradient_surfaces.Config(num_steps=1), tmp_path)
