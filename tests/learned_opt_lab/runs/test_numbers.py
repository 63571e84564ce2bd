"""Numbers of a config that are nan, infinite, out of range,
or other numbers in float32 or int32.
"""

import dataclasses

import numpy as np
import pytest

from configs import base
from learned_opt_lab.runs.build import build_outer_optimizer, check_numbers
from learned_opt_lab.runs.optimizer import initial_theta


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("learning_rate", (0.0, -1.0, np.nan, np.inf, 1e-50, 1e39)),
        ("eps", (0.0, -1e-8, np.nan, np.inf, 1e-50)),
        ("b1", (1.0, 1.5, -0.1, np.nan, 1 - 1e-9)),
        ("b2", (1.0, 1.5, -0.1, np.nan, np.inf, 1 - 1e-9)),
        ("final_fraction", (-0.1, 1.5, np.nan)),
        ("weight_decay", (-0.1, np.nan, np.inf)),
        ("clip_at", (0.0, -1.0, np.nan, np.inf, 1e-50)),
        ("num_warmup_steps", (-1, 10, 2.5)),
    ],
)
def test_an_outer_optimizer_s_number_out_of_range_is_refused(name, bad):
    for value in bad:
        with pytest.raises(ValueError, match=name):
            build_outer_optimizer(base.OuterOptimizer(**{name: value}), 10)


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"b1": 0.0, "b2": 0.0},
        {"clip": "none", "clip_at": 0.0},
        {"final_fraction": 0.0},
        {"name": "adamw", "weight_decay": 0.1},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(good):
    build_outer_optimizer(base.OuterOptimizer(**good), 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_outer_steps": 2**31},
            "num_outer_steps must be a whole number of at most 2147483647",
        ),
        ({"num_outer_steps": 0}, "num_outer_steps must be at least 1, got 0"),
        ({"checkpoint_every": np.nan}, "checkpoint_every must be a whole number"),
        ({"keep_checkpoints": 2.5}, "keep_checkpoints must be a whole number"),
        ({"seed": 2**32}, "seed must be a whole number within"),  # would be seed 0
        ({"seed": -(2**31) - 1}, "seed must be a whole number within"),
        (
            {"family": base.RandomQuadratic(dim=2**63 - 1)},
            "family.dim must be a whole number of at most 2147483647",
        ),
        (
            {"extra_families": (base.ClassSubset(hidden_sizes=(8, 2**40)),)},
            "extra_families.hidden_sizes must be a whole number",
        ),
        ({"held_out": base.HeldOut(num_tasks=2.5)}, "held_out.num_tasks must be a whole number"),
        ({"held_out": base.HeldOut(num_steps=2**31)}, "held_out.num_steps must be a whole number"),
    ],
)
def test_counts_and_seeds_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_numbers(dataclasses.replace(base.TrainConfig(), **changes))


def test_the_largest_counts_and_seeds_are_allowed():
    for seed in (0, 2**32 - 1, -(2**31)):
        check_numbers(
            base.TrainConfig(
                seed=seed, num_outer_steps=2**31 - 1, held_out=base.HeldOut(num_tasks=0)
            )
        )


def test_an_initial_theta_that_is_not_finite_is_refused(monkeypatch):
    import learned_opt

    theta = {"w": np.array([0.0, np.inf], np.float32)}
    monkeypatch.setattr(learned_opt, "load_theta", lambda *args, **kwargs: (None, theta))
    with pytest.raises(ValueError, match=r"run/theta.npz: theta\['w'\] must be finite, got 1 of 2"):
        initial_theta("run/theta.npz", None, {"w": np.zeros(2, np.float32)})
