"""Fig 3 of Metz et al. 2019: rates that truncated gradients favour."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_lab.papers.metz2019.truncation_bias import experiment
from learned_opt_lab.papers.metz2019.truncation_bias.adam_truncation import (
    measure_adam,
    measure_outer_optimizers,
)
from learned_opt_lab.papers.metz2019.truncation_bias.nqm_truncation import (
    stationary_rate,
    truncated_gradient,
)
from learned_opt_lab.papers.wu2018.noisy_quadratic.short_horizon import paper_problem
from learned_opt_lab.results.resumable import Cells
from tasks.images.datasets import digits

TRUNCATIONS = (1, 10, 50, 250)


@pytest.fixture(scope="module")
def problem():
    return paper_problem()


def test_rates_on_the_noisy_quadratic(problem):
    rates = [stationary_rate(problem, 250, k) for k in TRUNCATIONS]
    np.testing.assert_allclose(rates, [0.580, 0.638, 0.659, 0.669], rtol=0.02)
    assert np.all(np.diff(rates) > 0)


def energies(problem, rate, start, num_steps):
    """Losses after each step in NumPy, and the energies at the end."""
    h, s2 = (
        np.asarray(problem.curvatures, np.float64),
        np.asarray(problem.noise_variances, np.float64),
    )
    a, x, losses = rate * h / h.max(), start, []
    for _ in range(num_steps):
        x = (1 - a) ** 2 * x + a**2 * h * s2
        losses.append(x.sum() / 2)
    return np.asarray(losses), x


@pytest.mark.parametrize("truncation", [1, 3, 12])
def test_truncated_gradient_equals_finite_differences_of_windows(truncation):
    problem, rate, step, num_steps = paper_problem(dim=20), 0.4, 1e-4, 12
    start, total = np.asarray(problem.curvatures, np.float64), 0.0
    for _ in range(0, num_steps, truncation):
        above, below = (energies(problem, rate + s, start, truncation)[0] for s in (step, -step))
        total += (above - below).sum() / (2 * step)
        start = energies(problem, rate, start, truncation)[1]
    found = truncated_gradient(problem, jnp.float32(rate), num_steps, jnp.int32(truncation))
    assert float(found) == pytest.approx(total / num_steps, rel=1e-3)


def test_zero_crossing():
    rates = np.array([1.0, 10.0, 100.0])
    assert experiment.zero_crossing(rates, np.array([-1.0, 1.0, 2.0])) == pytest.approx(10**0.5)
    assert experiment.zero_crossing(rates, np.array([-1.0, -1.0, -2.0])) is None


def test_bad_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must divide num_steps = 500"):
        experiment.run(experiment.Config(truncations=(3,)), tmp_path)
    with pytest.raises(ValueError, match=r"are adam, rmsprop, momentum, sgd, got \['lion'\]"):
        experiment.run(experiment.Config(outer_optimizers=("lion",)), tmp_path)


def test_outer_optimizers_follow_their_rules(tmp_path):
    config = experiment.Config(
        num_steps=20,
        truncations=(2, 20),
        num_episodes=2,
        num_particles=2,
        hidden_size=4,
        outer_optimizers=("momentum", "sgd"),
        rates=(1e-2,),
    )
    key = jax.random.key(0)
    cells = Cells(tmp_path, experiment.__name__, config)
    adam = measure_adam(config, digits(), key, cells)
    paths = measure_outer_optimizers(config, digits(), key, adam, cells)
    for name, decay in (("momentum", 0.9), ("sgd", 0.0)):
        for path, windows in zip(paths[name], adam.windows, strict=True):
            rate = config.outer_learning_rate / np.sqrt(np.mean(windows**2))
            log_rate, velocity = np.log(config.learning_rate), 0.0
            for _, gradient, found in path:
                assert found == pytest.approx(log_rate, rel=1e-4)
                velocity = decay * velocity + (1 - decay) * gradient
                log_rate -= rate * velocity
    # The first gradient is that of Adam's run: the same problems from the same start.
    assert paths["sgd"][0][0, 1] == adam.paths[0][0, 1]


def test_a_small_run_on_digits(tmp_path):
    config = experiment.Config(
        dim=50,
        num_steps=20,
        truncations=(2, 20),
        num_episodes=3,
        num_particles=2,
        hidden_size=4,
        learning_rate=1e-3,
        outer_optimizers=("sgd",),
        rates=(1e-3, 1e-1),
    )
    result = experiment.run(config, tmp_path)
    numbers, others = result["adam"], result["outer_optimizers"]
    assert list(others) == ["adam", "sgd"]
    assert others["adam"]["final_rates"] == numbers["final_rates"]
    assert others["sgd"]["final_rates"] != numbers["final_rates"]
    assert json.loads((tmp_path / "result.json").read_text())["adam"] == numbers
    windows = numbers["gradient_over_inner_training"]
    assert [len(windows["2"]), len(windows["20"])] == [10, 1]
    # The first column of gradients is measured at the initial rate, as the windows are.
    assert np.mean(windows["2"]) == pytest.approx(numbers["gradients"][0][0], rel=1e-5)
    assert windows["20"][0] == pytest.approx(numbers["gradients"][1][0], rel=1e-5)
    # So short an episode wants a larger rate, and every truncation agrees.
    assert numbers["losses"][1] != numbers["losses"][0]
    assert all(rate > 1e-3 for rate in numbers["final_rates"])
    assert (tmp_path / "adam.png").stat().st_size > 20_000
    assert (tmp_path / "outer_optimizers.png").stat().st_size > 20_000


@pytest.mark.usefixtures("optimized")
def test_short_truncations_end_at_smaller_rates_on_digits(tmp_path):
    result = experiment.run(experiment.Config(), tmp_path)
    numbers = result["adam"]
    first, second = numbers["stationary_rates"][:2]
    assert first < second < numbers["best_rate"] * 1.1
    assert numbers["final_rates"][0] < numbers["initial_rate"]
    for name, ends in result["outer_optimizers"].items():
        assert ends["final_rates"][0] < min(ends["final_rates"][1:]), name
