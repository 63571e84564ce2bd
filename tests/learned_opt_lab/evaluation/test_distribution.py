"""One configuration for a distribution: against a loop by hand, and resumed."""

import jax
import numpy as np
import pytest

from learned_opt_lab.cli.main import main
from learned_opt_lab.evaluation import distribution
from learned_opt_lab.evaluation.baselines import LEARNING_RATES
from learned_opt_lab.evaluation.distribution import Distribution, tune_over
from tasks.analytic import random_quadratic_family

QUADRATICS = Distribution("quadratics", random_quadratic_family(dim=2), 8, num_runs=3)


def quadratic_losses(rate):
    """Of SGD from the same starts on the same tasks, mean over the run."""
    runs = distribution.make_runs(
        jax.random.fold_in(jax.random.key(0), distribution._ROLE), QUADRATICS.num_runs
    )
    sweep = distribution.make_sweep(
        QUADRATICS.family,
        distribution.baseline("sgd").factory,
        num_steps=8,
        splits=("outer_valid",),
    )
    curves = sweep({"learning_rate": np.array([rate], np.float32)}, runs)
    losses = np.asarray(curves["outer_valid"]["loss"])[0, :, 1:]
    return np.where(np.isfinite(losses), np.minimum(losses, 10), 10).mean(axis=1)


def test_the_rate_of_the_lowest_mean_over_all_tasks(tmp_path):
    tuned = tune_over(QUADRATICS, "sgd", 1, tmp_path)
    expected = np.array([quadratic_losses(rate) for rate in LEARNING_RATES])
    np.testing.assert_allclose(tuned.scores, expected.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(tuned.deviations, expected.std(axis=1), rtol=1e-3, atol=1e-6)
    best = int(expected.mean(axis=1).argmin())
    assert tuned.index == best
    assert tuned.hyperparameters["learning_rate"] == pytest.approx(LEARNING_RATES[best])
    assert tuned.loss == pytest.approx(expected.mean(axis=1).min(), rel=1e-4)


def test_a_larger_budget_keeps_what_was_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "CHUNK", 2)
    tried = []

    def runner(of, entry, at_once):
        def run(chunk):
            tried.append(chunk["learning_rate"].tolist())
            return chunk["learning_rate"][:, None] * np.ones(of.num_runs)

        return run

    monkeypatch.setattr(distribution, "_runner", runner)
    small = tune_over(QUADRATICS, "adam8", 4, tmp_path)
    assert [len(chunk) for chunk in tried] == [2, 2]
    shown = []
    large = tune_over(QUADRATICS, "adam8", 7, tmp_path, lambda *each: shown.append(each))
    assert [len(chunk) for chunk in tried] == [2, 2, 2, 1]
    assert shown == [(2, 7), (4, 7), (6, 7), (7, 7)]
    np.testing.assert_array_equal(large.scores[:4], small.scores)
    assert set(large.hyperparameters) == set(distribution.baseline("adam8").configurations(1, 0))
    assert large.hyperparameters["learning_rate"] == pytest.approx(min(min(each) for each in tried))
    with pytest.raises(ValueError, match="objective must be one of valid, train, got 'test'"):
        tune_over(QUADRATICS._replace(objective="test"), "sgd", 1, tmp_path)
    monkeypatch.setattr(
        distribution, "_runner", lambda *args: lambda chunk: np.full((len(chunk["eps"]), 3), np.nan)
    )
    with pytest.raises(ValueError, match="no loss of adam8 over quadratics is finite"):
        tune_over(QUADRATICS, "adam8", 4, tmp_path / "other")


def test_the_command_tunes_over_a_config(tmp_path, capsys):
    argv = ["tune", "sgd", "--over", "quadratic", "--num-runs", "2", "--num-devices", "1"]
    argv += ["--no-compilation-cache", "--cache-dir", str(tmp_path)]
    assert main(argv) == 0
    assert "11 x 2 runs" in capsys.readouterr().out
    assert main([*argv, "--task", "x"]) == 2
    assert "--over takes none" in capsys.readouterr().err
    assert main([*argv, "--over", "quadratik"]) == 2
    assert "unknown config 'quadratik'; did you mean quadratic" in capsys.readouterr().err
