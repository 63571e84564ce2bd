"""Learnable hyperparameters as learned optimizers:
their formulas, and outer-training them as any other.
"""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.catalog import OPTIMIZERS
from learned_opt.hand_designed import hyperparameters
from learned_opt_lab.cli.main import main
from learned_opt_lab.evaluation.suite.entries import parse_entries
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from tasks.analytic.random_quadratic import random_quadratic_family

PARAMS = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array(0.3)}
GRADS = [{"w": jnp.array([0.1, -3.0, 2.0]) * s, "b": jnp.array(0.7) / s} for s in (1.0, -0.5, 2.0)]


def run(optimizer):
    """Parameters after three steps."""
    params, state = PARAMS, optimizer.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        for grads in GRADS:
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("learned", "reference"),
    [
        (hyperparameters.sgd(0.2), optax.sgd(0.2)),
        (hyperparameters.momentum(0.2, 0.8), optax.sgd(0.2, momentum=0.8)),
        (hyperparameters.adam(0.02, 0.8, 0.95, 1e-8), optax.adam(0.02, 0.8, 0.95, 1e-8)),
        (hyperparameters.adam8(0.02, 0.8, 0.95, 1e-8), optax.adam(0.02, 0.8, 0.95, 1e-8)),
    ],
)
def test_equals_optax(learned, reference):
    got = run(learned.optimizer(learned.init(jax.random.key(0))))
    for name, want in run(reference).items():
        np.testing.assert_allclose(got[name], want, rtol=2e-5)


def test_adam8_decays_and_regularizes():
    """Rates fall as printed, and the penalties' gradients go through Adam with the loss's."""
    settings = {"exponential_decay": 0.3, "linear_decay": 0.2, "l1": 0.5, "l2": 0.25}
    learned = hyperparameters.adam8(0.02, 0.8, 0.95, 1e-8, **settings)

    def regularized(grads, state, params):
        return jax.tree.map(lambda g, p: g + 0.5 * jnp.sign(p) + 0.25 * p, grads, params), state

    reference = optax.chain(
        optax.GradientTransformation(lambda params: (), regularized),
        optax.scale_by_adam(0.8, 0.95, 1e-8),
        optax.scale_by_schedule(lambda t: -0.02 * math.exp(-0.3) ** t * (1 - 0.2 * t)),
    )
    got = run(learned.optimizer(learned.init(jax.random.key(0))))
    for name, want in run(reference).items():
        np.testing.assert_allclose(got[name], want, rtol=2e-5)


def test_all_are_in_the_registry_with_their_number_of_hyperparameters():
    counts = {"sgd": 1, "momentum": 2, "adam": 4, "adam8": 8}
    for name, count in counts.items():
        assert len(OPTIMIZERS[name]().init(jax.random.key(0))) == count


def test_outer_training_improves_adam8_and_it_can_be_evaluated(tmp_path):
    """From a rate of 1e-3, far too small for quadratics whose minima lie a distance of one away."""
    command = [
        "train", "quadratic", "optimizer:named", "--optimizer.name", "adam8", "--run-dir",
        str(tmp_path / "run"), "--num-outer-steps", "250", "--checkpoint-every", "250",
        "--problem.num-steps", "20", "--family.dim", "4", "--outer-optimizer.learning-rate", "0.1",
        "--held-out.num-tasks", "0", "--estimator.num-pairs", "8", "--estimator.std", "0.1",
        "--family.min-curvature", "0.3", "--no-compilation-cache", "--num-devices", "2",
    ]  # fmt: skip
    assert main(command) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["outer_loss_last"] < 0.6 * summary["outer_loss_first"]
    (entry,) = parse_entries([f"mine={tmp_path / 'run'}"])
    assert len(entry.theta) == 8
    assert 0.02 < math.exp(float(entry.theta["log_learning_rate"])) < 5
    thetas = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), entry.theta, entry.optimizer.init(jax.random.key(0))
    )
    family = random_quadratic_family(dim=4, min_curvature=0.3)
    sweep = make_sweep(family, entry.optimizer.optimizer, num_steps=20, splits=("test",))
    trained, fresh = sweep(thetas, make_runs(jax.random.key(5), 16))["test"]["loss"].mean(
        axis=(1, 2)
    )
    assert trained < 0.5 * fresh
