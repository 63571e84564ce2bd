"""The searches of what ships draw, score and move exactly the numbers by which it was made."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

import learned_opt
from learned_opt_lab.runs import catalog
from learned_opt_lab.searches import cross_entropy, start_search, step_search
from learned_opt_lab.searches.candidates import Candidates

NAMES = ("bias", "weights")
WEIGHTS = Path(learned_opt.__file__).parent / "pretrained" / "general.npz"


def general():
    """`general`'s search, from the weights that ship, on families that need no JAX."""
    config = catalog.load("general")[0]
    settings = step_search.searched_settings(config.optimizer)
    files = np.load(WEIGHTS)
    theta = {
        layer: {name: files[f"{layer}/{name}"] for name in NAMES}
        for layer in ("layer_0", "layer_1")
    }
    start = step_search.numbers_at_start(settings, config.search)
    optimizer = SimpleNamespace(within=lambda num_steps: lambda theta: None)
    to_theta = lambda numbers: step_search.moved(settings, theta, numbers)
    return config.search, Candidates(
        start, to_theta, optimizer, lambda numbers: ("mlp", {}), lambda numbers: {}
    )


def test_where_the_search_of_general_starts():
    _, candidates = general()
    direction = [-0.149, 0.388, 0.795, -0.14, -0.061, 0.251]
    rate = [
        -0.091,
        0.229,
        0.217,
        -0.038,
        -0.033,
        -0.036,
        -0.026,
        0.015,
        -0.023,
        0.111,
        0.014,
        -0.001,
        0.099,
    ]
    decay = [np.log(0.1), -9.5, 0.0, -5.0, *[0.0] * 7, 3.0, 0.0, 0.0]
    np.testing.assert_allclose(candidates.start.mean, direction + rate + decay, rtol=1e-12)
    std = [0.08, *[0.3] * 5, *[0.12] * 6, *[0.05] * 6, 0.1, 0.3, 0.8, *[0.5] * 12]
    np.testing.assert_allclose(candidates.start.std, std, rtol=1e-12)


def test_the_theta_that_the_search_of_general_starts_from():
    _, candidates = general()
    moved = candidates.to_theta(candidates.start.mean)
    for layer, name, total, total_length in (
        ("layer_0", "bias", -19.60021099448204, 23.311403036117554),
        ("layer_0", "weights", 4.770759319595527, 142.70559603133006),
        ("layer_1", "bias", -0.1388377547264099, 0.6980485320091248),
        ("layer_1", "weights", 0.3809903953806497, 12.351852504594717),
    ):
        values = np.asarray(moved[layer][name], np.float64)
        np.testing.assert_allclose(
            [values.sum(), np.abs(values).sum()], [total, total_length], rtol=1e-6
        )


def test_where_the_search_of_general_es_starts():
    config = catalog.load("general_es")[0]
    start = start_search.around_the_start(config.optimizer, config.search)
    mean = [np.log(0.02), 0.5, 0.3, 0.0, -0.6, 0.14, 0.14, *[0.035] * 4, -0.34, -0.34, 0.018]
    np.testing.assert_allclose(start.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(start.std, [0.6, *[0.25] * 6, *[0.1] * 6, 0.02], rtol=1e-12)


def test_two_generations_of_general_draw_and_score_the_same(monkeypatch):
    """A sweep in NumPy stands for the runs;
    what it is asked, and what is made of its losses, are the search's.
    """
    asked = []

    def make_sweep(family, optimizer, **options):
        asked.append(options)

        def sweep(values, runs):
            leaves = (
                [values[layer][name] for layer in values for name in NAMES]
                if isinstance(values, dict)
                else [values]
            )
            leaves = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in leaves]
            flat = np.concatenate(leaves, axis=1)
            level = 0.1 + np.abs(np.sin(3.0 * flat)).mean(axis=1) + 0.01 * family.weight
            decay = np.linspace(1.0, 0.5, 40) ** (1.0 + runs[0])
            return {
                "outer_valid": {
                    "loss": level[:, None, None] * decay * np.array([1.0, 1.1])[: runs[1], None]
                }
            }

        return sweep

    def make_runs(key, number):
        data = np.asarray(jax.random.key_data(key)).tolist()
        asked.append((data, number))
        return float(data[-1] % 7), number

    monkeypatch.setattr(cross_entropy, "make_sweep", make_sweep)
    monkeypatch.setattr(cross_entropy, "make_runs", make_runs)
    settings, candidates = general()
    settings = dataclasses.replace(settings, num_generations=2, population=24)
    families = [SimpleNamespace(weight=1.5), SimpleNamespace(weight=0.5)]
    found, scores = cross_entropy.minimize(candidates, families, settings, seed=3)
    np.testing.assert_allclose(
        scores, [[4.086604235460888] * 2, [7.136072379608543, 7.074106980871317]], rtol=1e-6
    )
    np.testing.assert_allclose(
        [found.mean.sum(), found.std.sum()], [-12.40519692379505, 6.903258253588269], rtol=1e-6
    )
    first = [-0.14662310728022532, 0.4312024172209098, 0.673751225042805, -0.11765847973220449]
    np.testing.assert_allclose(found.mean[:4], first, rtol=1e-6)
    options = {
        "num_steps": 1000,
        "splits": ("outer_valid",),
        "eval_every": 25,
        "num_eval_batches": 4,
    }
    assert asked == [options] * 4 + [([0, 1000], 2)] * 2 + [([0, 1001], 2)] * 2
