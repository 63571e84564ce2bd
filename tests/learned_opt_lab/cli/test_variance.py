"""`learned-opt variance`, and the statistics behind it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_lab.cli.commands.variance import checked_names, lengths_within
from learned_opt_lab.cli.main import main
from outer_train import estimators
from outer_train.devices import PARTICLES, particle_mesh
from outer_train.gradient_quality import (
    Estimates,
    Sampler,
    cosine,
    reliability,
    summarize,
    without_noise,
)
from outer_train.problem import UnrolledSystem

SMALL = [
    "--estimator.num-pairs",
    "4",
    "--optimizer.hidden-sizes",
    "2",
    "--family.dim",
    "2",
    "--problem.num-steps",
    "4",
]


def test_summary_of_known_estimates():
    grads = np.array([[3.0, 4.0], [3.0, -4.0]])
    found = summarize(Estimates(grads, np.array([1.0, 2.0]), 5), np.array([2.0, 0.0]))
    assert found.norm == pytest.approx(3)
    assert found.mean_norm == pytest.approx(5)
    assert found.variance == pytest.approx((0 + 32) / 2)
    assert found.cosine == pytest.approx(1)
    assert found.mean_cosine == pytest.approx(0.6)
    assert (found.loss, found.num_non_finite) == (1.5, 5)
    assert reliability(Estimates(grads, np.zeros(2), 0)) == pytest.approx((9 - 16) / 25)
    assert np.isnan(cosine(np.zeros(2), np.ones(2)))


def test_a_cosine_without_noise_is_that_of_the_expected_gradients():
    """Two gradients at 60 degrees, the mean of each over so many estimates that noise halves it."""
    rng = np.random.default_rng(0)
    size, number = 40_000, 64
    expected = np.zeros((2, size))
    expected[:, 0] = 1, 0.5
    expected[1, 1] = np.sqrt(0.75)
    noise = np.sqrt(number / size) * rng.normal(size=(2, number, size))
    found = [
        Estimates(each[None] + noise[i], np.zeros(number), 0) for i, each in enumerate(expected)
    ]
    means = [each.grads.mean(axis=0) for each in found]
    assert cosine(*means) == pytest.approx(0.25, abs=0.03)
    corrected = without_noise(cosine(*means), *map(reliability, found))
    assert corrected == pytest.approx(0.5, abs=0.05)
    assert without_noise(0.99, 0.9, 0.9) == 1
    assert np.isnan(without_noise(0.5, 0.0, 0.9))
    assert np.isnan(without_noise(0.5, np.nan, 0.9))


def test_sampler_on_a_linear_loss():
    """ES of `loss = slope . theta` has mean `slope` and variance `slope^2 + |slope|^2` a pair,
    for each parameter.
    """
    slope = jnp.array([1.0, 2.0], jnp.float32)
    problem = UnrolledSystem(
        lambda theta, key: jnp.float32(0),
        lambda theta, state, key, data: (state + 1, data @ theta),
        4,
        slope,
    )
    estimator = estimators.evolution_strategies(problem, 64, 0.1, PARTICLES)
    sampler = Sampler(estimator, 4, particle_mesh(64, 2))
    found = sampler(jnp.zeros(2, jnp.float32), jax.random.key(0), 2, 64, slope)
    assert found.grads.shape == (64, 2)
    summary = summarize(found, np.array([1.0, 2.0]))
    expected = (2 * 5 + 5) / 2 / 64
    standard_error = np.sqrt(np.array([6.0, 9.0]) / 64**2)
    assert np.all(np.abs(found.grads.mean(axis=0) - slope) < 4 * standard_error)
    assert summary.variance == pytest.approx(expected, rel=0.5)
    assert summary.cosine > 0.99
    with pytest.raises(ValueError, match="num_estimates must be at least 2"):
        sampler(jnp.zeros(2, jnp.float32), jax.random.key(0), 2, 1, slope)


def test_bad_input():
    assert checked_names("merged, full-es,merged") == ["merged", "full_es"]
    assert lengths_within("50,10", 50) == [10, 50]
    assert lengths_within("10%,50", 50) == [5, 50]
    with pytest.raises(ValueError, match="unknown estimator 'pes'"):
        checked_names("pes")
    with pytest.raises(ValueError, match=r"lie in \[1, 40\]"):
        lengths_within("10,50", 40)
    with pytest.raises(ValueError, match="whole numbers"):
        lengths_within("ten", 40)


def test_command_writes_table_json_and_figure(tmp_path, capsys):
    out = tmp_path / "out"
    argv = [
        "variance",
        "quadratic",
        *SMALL,
        "--estimators",
        "persistent_es,full-es",
        "--lengths",
        "1,2",
    ]
    argv += [
        "--num-estimates",
        "3",
        "--num-reference-estimates",
        "8",
        "--equal-inner-steps",
        "--truncation.num-steps",
        "2",
    ]
    argv += ["--out", str(out), "--num-devices", "2", "--no-compilation-cache"]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "persistent_es" in shown
    assert "pairs of whole episodes" in shown
    result = json.loads((out / "variance.json").read_text())
    assert [(row["estimator"], row["num_steps"]) for row in result["rows"]] == [
        ("persistent_es", 1),
        ("persistent_es", 2),
        ("full_es", 4),
    ]
    assert [row["num_estimates"] for row in result["rows"]] == [6, 3, 3]
    assert all(abs(row["reliability"]) <= 1 for row in result["rows"])
    assert result["reference"]["num_episode_pairs"] == 8 * 4
    assert all(
        row["variance"] > 0 and abs(row["cosine"]) <= 1 and row["norm"] > 0
        for row in result["rows"]
    )
    assert (out / "variance.png").stat().st_size > 20_000
    assert main(argv) == 2
    assert "holds a result" in capsys.readouterr().err
