"""A config of a file is one whose values are of their fields' types, or is refused, whatever it
holds.
"""

import collections
import copy
import dataclasses
import sys
import time

import numpy as np
import pytest

from configs import base
from learned_opt_lab.runs.build import build
from learned_opt_lab.runs.config_json import from_json, to_json
from tests.support.lab.strangers import CONFIG
from tests.support.learned_opt.mutations import VALUES, mutated_json

SECONDS = 120.0
"""For one config on a busy machine."""


def test_values_are_of_their_fields_types():
    whole = to_json(CONFIG)
    for name, wrong in {
        "seed": (1.5, True, "1", None, 2**63, [1]),
        "num_outer_steps": ("x", 0.5, {}),
        "init_theta": (3, ["x"]),
        "extra_families": ({}, [{"type": "Mlp"}], [3]),
        "family": ({"type": "Mlp"}, "digits", None, []),
        "problem": (
            {"type": "InnerProblem", "objective": "test"},
            {"type": "InnerProblem", "loss_clip": "10"},
        ),
    }.items():
        for value in wrong:
            with pytest.raises(
                ValueError, match=name if name != "problem" else "objective|loss_clip"
            ):
                from_json(whole | {name: value})
    kept = from_json(
        {"type": "NamedOptimizer", "name": "mlp", "kwargs": {"type": "x", "sizes": [4]}}
    )
    assert kept.kwargs == {"type": "x", "sizes": (4,)}
    deep = whole
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        from_json(deep)
    with pytest.raises(ValueError, match="theta would have"):
        build(dataclasses.replace(CONFIG, optimizer=base.Mlp(hidden_sizes=(10**9,))))


def fuzz(number, stranger, *, most_builds):
    honest = [
        to_json(CONFIG),
        to_json(dataclasses.replace(CONFIG, optimizer=base.NamedOptimizer("adam", {"b1": 0.8}))),
    ]
    counts = collections.Counter()
    for seed in range(number):
        rng = np.random.default_rng(seed)
        value = mutated_json(rng, honest[seed % 2])
        if rng.integers(3) == 0:
            code = {
                "type": "CustomFamily",
                "target": VALUES[-5 + rng.integers(4)],
                "kwargs": {"cmd": "touch executed"},
            }
            value = copy.deepcopy(honest[0]) | {"family": code}
        start = time.monotonic()
        try:
            config = from_json(value)
            counts["read"] += 1
            if counts["read"] <= most_builds:
                build(config, num_devices=1)
                counts["built"] += 1
        except (ValueError, OSError) as error:
            counts[type(error).__name__] += 1
            refused = str(error)
            counts["too long"] += len(refused) > 2000
        assert time.monotonic() - start < SECONDS, (seed, value)
        assert not stranger.exists()
        assert not (stranger.parent / "stranger" / "executed").exists()
    assert "stranger" not in sys.modules
    assert counts["too long"] == 0
    return counts


def test_mutations(stranger):
    counts = fuzz(40, stranger, most_builds=6)
    assert counts["ValueError"] + counts["NotTrusted"] >= 10


@pytest.mark.slow
def test_300_mutations(stranger, tell):
    counts = fuzz(300, stranger, most_builds=300)
    tell(f"configs: 300 mutations, {dict(counts)}, 0 executed, 0 hung")
    assert counts["built"] < 300
