"""`learned-opt ablate`: variants and their budgets, and a run that goes on where it was stopped."""

import dataclasses
import json

import numpy as np
import pytest

from configs import base
from configs.quadratic import config as quadratic
from learned_opt_lab.ablation import runs
from learned_opt_lab.ablation.variants import inner_steps, steps_for, variant_names, variants_of
from learned_opt_lab.cli.commands.ablate import checked_lengths, checked_names
from learned_opt_lab.cli.main import main

CONFIG = dataclasses.replace(
    quadratic, problem=base.InnerProblem(num_steps=40), estimator=base.PersistentES(4)
)


def test_inner_steps_of_known_schedules():
    # Four pairs start at steps 5, 15, 25, 35 of 40, eight particles with both sides.
    assert inner_steps(np.array([10]), 4, 40) == 2 * (10 + 10 + 10 + 5)
    assert inner_steps(np.array([40, 40]), 4, 40) == 2 * (35 + 25 + 15 + 5) + 2 * 4 * 40
    assert steps_for(lambda n: np.full(n, 40), CONFIG, 160 + 320 * 9) == 10
    with pytest.raises(ValueError, match="not enough for two truncations of 40 steps of 4 pairs"):
        steps_for(lambda n: np.full(n, 40), CONFIG, 100)


def test_every_variant_spends_the_same():
    lengths = [5, 20]
    variants = variants_of(CONFIG, variant_names(lengths), lengths, 2, 20_000)
    assert list(variants) == [
        "merged", "evolution_strategies", "reparameterization", "persistent_es", "noise_reuse_es",
        "fixed_5", "fixed_20", "no_momentum", "no_time", "train_objective",
    ]  # fmt: skip
    labels = [variant.label for variant in variants.values() if variant.group == "estimator"]
    assert labels == ["ES only", "RP only", "PES", "NRES"]
    for name, variant in variants.items():
        config, n = variant.config, variant.config.num_outer_steps
        grows = isinstance(config.truncation, base.Linear)
        made = (
            np.linspace(2, 20, n, endpoint=False)
            if grows
            else np.full(n, config.truncation.num_steps)
        )
        assert inner_steps(made, 4, 40) == pytest.approx(20_000, rel=0.01), name
        assert config.estimator.num_pairs == 4
    assert variants["merged"].config.truncation == base.Linear(
        2, 20, variants["merged"].config.num_outer_steps, 0.2
    )
    assert variants["no_momentum"].config.optimizer.features == ("parameter", "adam_gradient")
    assert variants["no_time"].config.optimizer.timescales == ()
    assert variants["train_objective"].config.problem.objective == "train"
    named = dataclasses.replace(CONFIG, optimizer=base.NamedOptimizer("adam8"))
    with pytest.raises(ValueError, match="no_time takes inputs away"):
        variants_of(named, ["no_time"], lengths, 2, 20_000)
    assert "no_time" not in checked_names("all", variant_names(lengths), named)


def test_bad_names_and_lengths():
    assert checked_lengths("1000,10,50", 40) == [10, 40]
    assert checked_names("fixed-10,merged,merged", variant_names([10]), CONFIG) == [
        "fixed_10",
        "merged",
    ]
    with pytest.raises(ValueError, match="unknown variant 'merge'; did you mean merged"):
        checked_names("merge", variant_names([10]), CONFIG)
    with pytest.raises(ValueError, match="whole numbers"):
        checked_lengths("10;20", 40)


COMMAND = [
    "ablate", "quadratic", "--family.dim", "2", "--estimator.num-pairs", "2", "--problem.num-steps",
    "8", "--lengths", "2,4", "--curriculum-start", "2", "--num-inner-steps", "200", "--num-tasks",
    "2", "--num-points", "2", "--optimizer.hidden-sizes", "2", "--variants", "persistent_es",
    "--no-compilation-cache", "--num-devices", "1",
]  # fmt: skip


def test_an_ablation_goes_on_with_what_is_missing(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert main([*COMMAND, "--num-seeds", "1", "--out", str(out)]) == 0
    (first,) = json.loads((out / "ablation.json").read_text())["variants"]
    assert first["inner_steps"] == pytest.approx([200], abs=20)
    assert {"ablation.png", "table.md", "cells"} <= {path.name for path in out.iterdir()}
    cell = runs.read_cell(out / "cells" / "persistent_es" / "0.npz")
    assert cell["outer_train/outer_valid"].shape == cell["held_out/test"].shape == (3, 2)
    assert cell["inner_steps"][[0, -1]].tolist() == [0, cell["truncation_inner_steps"][-1]]
    made = []

    def recorded(problem, variant, settings, seeds, evaluate):
        made.append((variant.name, seeds))
        return {
            seed: cell | {"outer_train/outer_valid": cell["outer_train/outer_valid"] + 1}
            for seed in seeds
        }

    monkeypatch.setattr(runs, "run_seeds", recorded)
    assert main([*COMMAND, "--num-seeds", "3", "--out", str(out)]) == 0
    assert made == [("persistent_es", [1, 2])]
    (again,) = json.loads((out / "ablation.json").read_text())["variants"]
    (loss,) = first["outer_loss_of_seeds"]
    np.testing.assert_allclose(again["outer_loss_of_seeds"], [loss, loss + 1, loss + 1])
    capsys.readouterr()
    assert main([*COMMAND, "--out", str(out), "--seed", "3"]) == 2
    assert "holds another ablation" in capsys.readouterr().err.splitlines()[0]
