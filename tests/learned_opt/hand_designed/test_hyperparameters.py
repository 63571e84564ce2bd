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
        (hyperparameters.rmsprop8(0.02, 0.8, 0.7), optax.rmsprop(0.02, 0.8, 1e-16, momentum=0.7)),
        (hyperparameters.rmsprop8(0.02, 0.8), optax.rmsprop(0.02, 0.8, 1e-16)),
        (hyperparameters.momentum6(0.2, 0.8, 1e-9, 1e-9), optax.sgd(0.2, momentum=0.8)),
    ],
)
def test_equals_optax(learned, reference):
    got = run(learned.optimizer(learned.init(jax.random.key(0))))
    for name, want in run(reference).items():
        np.testing.assert_allclose(got[name], want, rtol=2e-5)


RULES = {
    "adam8": (lambda **k: hyperparameters.adam8(0.02, 0.8, 0.95, 1e-8, **k), (0.8, 0.95)),
    "rmsprop8": (lambda **k: hyperparameters.rmsprop8(0.02, 0.9, 0.6, 1e-3, **k), (0.6, 0.9)),
    "momentum6": (lambda **k: hyperparameters.momentum6(0.02, 0.7, **k), (0.7, None)),
}


def by_hand(name, decays, params, grads, exponential, linear, l1, l2):
    """The rules in NumPy, in 64 bit."""
    first, second = decays
    mean = square = np.zeros_like(params)
    for t, grad in enumerate(grads):
        grad = grad + l1 * np.sign(params) + l2 * params
        rate = 0.02 * np.exp(-exponential * t) * max(1 - linear * t, 0)
        square = square if second is None else second * square + (1 - second) * grad**2
        if name == "adam8":
            mean = first * mean + (1 - first) * grad
            root = np.sqrt(square / (1 - second ** (t + 1)))
            params = params - rate * mean / (1 - first ** (t + 1)) / root
        else:
            root = np.sqrt(square + 1e-6) if name == "rmsprop8" else 1.0
            mean = first * mean - rate * grad / root
            params = params + mean
    return params


@pytest.mark.parametrize("name", RULES)
def test_rates_decay_and_penalties_count(name):
    """Rates fall as printed, and the penalties' gradients go through the rule with the loss's."""
    make, decays = RULES[name]
    settings = {"exponential_decay": 0.3, "linear_decay": 0.4, "l1": 0.5, "l2": 0.25}
    learned = make(**settings)
    got = run(learned.optimizer(learned.init(jax.random.key(0))))
    for part, start in PARAMS.items():
        grads = [np.asarray(grads[part], np.float64) for grads in GRADS]
        want = by_hand(name, decays, np.asarray(start, np.float64), grads, *settings.values())
        np.testing.assert_allclose(got[part], want, rtol=2e-5)


def test_all_are_in_the_registry_with_their_number_of_hyperparameters():
    counts = {"sgd": 1, "momentum": 2, "adam": 4, "adam8": 8, "rmsprop8": 8, "momentum6": 6}
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
