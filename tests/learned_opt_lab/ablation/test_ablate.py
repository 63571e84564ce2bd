"""`learned-opt ablate`: variants and their budgets, and a run that goes on where it was stopped."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import base
from configs.quadratic import config as quadratic
from learned_opt import load_theta
from learned_opt_lab.ablation import rates, runs
from learned_opt_lab.ablation.budgets import (
    checked_lengths,
    live_steps,
    planned_lengths,
    spent,
    with_budget,
)
from learned_opt_lab.ablation.variants import changes, check_own, variants_of
from learned_opt_lab.cli.commands.ablate import checked_names, own_variants
from learned_opt_lab.cli.main import main

CONFIG = dataclasses.replace(
    quadratic,
    problem=base.InnerProblem(num_steps=40),
    estimator=base.PersistentES(4),
    truncation=base.Linear(2, 20, 50, 0.0),
    num_outer_steps=100,
)
"""Half of its outer steps are at the longest truncation."""


def test_live_steps_of_known_schedules():
    # Four pairs start at steps 5, 15, 25, 35 of 40.
    assert live_steps(np.array([10]), 4, 40) == 10 + 10 + 10 + 5
    assert live_steps(np.array([40, 40]), 4, 40) == 35 + 25 + 15 + 5 + 4 * 40
    assert live_steps(np.array([40, 30, 30]), 4, 40, staggered=False) == 4 * 40 + 4 * 40
    # Of one length by a formula, else truncation by truncation.
    for length, number in ((7, 23), (40, 5), (2, 100), (13, 3)):
        lengths = np.full(number, length)
        for each in (lengths, np.append(lengths, length - 1)):
            assert live_steps(each, 3, 40) == _by_hand(each, 3, 40)


def _by_hand(lengths, count, episode):
    total = 0
    for particle in range(count):
        step = int((particle + 0.5) / count * episode)
        for length in lengths:
            live = min(length, episode - step)
            total, step = total + live, (step + live) % episode
    return total


def test_planned_lengths():
    np.testing.assert_allclose(planned_lengths(base.Linear(2, 10, 4), 6), [2, 4, 6, 8, 10, 10])
    np.testing.assert_allclose(planned_lengths(base.Constant(3), 2), [3, 3])
    # The mean of a variable whose logarithm is uniform on [1, e].
    low, high = 1000, 2718
    expected = np.exp(np.linspace(np.log(low), np.log(high), 100_001)).mean()
    assert planned_lengths(base.LogUniform(low, high), 1)[0] == pytest.approx(expected, rel=1e-4)


def test_what_a_config_spends():
    assert spent(dataclasses.replace(CONFIG, truncation=base.Constant(40))) == 2 * (80 + 99 * 160)
    particles = dataclasses.replace(
        CONFIG, estimator=base.TruncatedBackprop(4), truncation=base.Constant(40)
    )
    assert spent(particles) == 80 + 99 * 160
    whole = dataclasses.replace(CONFIG, estimator=base.FullES(4))
    assert spent(whole) == 2 * 100 * 4 * 40
    assert spent(
        dataclasses.replace(whole, extra_families=(base.RandomQuadratic(num_steps=10),))
    ) == (2 * 100 * 4 * 50)


def test_a_budget_stretches_the_schedules():
    warm = dataclasses.replace(CONFIG, outer_optimizer=base.OuterOptimizer(num_warmup_steps=20))
    short = with_budget(warm, spent(warm) // 10)
    assert short.num_outer_steps == pytest.approx(10, abs=1)
    assert short.truncation == base.Linear(2, 20, round(short.num_outer_steps / 2), 0.0)
    assert short.outer_optimizer.num_warmup_steps == pytest.approx(2, abs=1)
    constant = dataclasses.replace(CONFIG, truncation=base.Constant(40))
    assert with_budget(constant, 160 + 320 * 9).num_outer_steps == 10
    with pytest.raises(ValueError, match="100 inner steps are not enough for two outer steps"):
        with_budget(constant, 100)


def test_every_variant_changes_one_thing_of_the_config_and_spends_the_same():
    names = list(changes(CONFIG, [5, 20]))
    assert names == [
        "persistent_es", "evolution_strategies", "reparameterization", "merged", "noise_reuse_es",
        "fixed_5", "fixed_20", "no_momentum", "no_time", "preset_metz2019", "train_objective",
    ]  # fmt: skip
    variants = variants_of(CONFIG, names, [5, 20], 20_000)
    assert variants["persistent_es"].label == "PES, curriculum"
    assert variants["reparameterization"].label == "RP"
    for name, variant in variants.items():
        assert spent(variant.config) == pytest.approx(20_000, rel=0.02), name
        same = dataclasses.replace(
            variant.config,
            num_outer_steps=CONFIG.num_outer_steps,
            truncation=CONFIG.truncation
            if variant.group != "truncation"
            else variant.config.truncation,
        )
        changed = [
            field.name
            for field in dataclasses.fields(CONFIG)
            if getattr(same, field.name) != getattr(CONFIG, field.name)
        ]
        expected = {"base": [], "estimator": ["estimator"], "truncation": ["truncation"]}
        expected |= {"inputs": ["optimizer"], "objective": ["problem"]}
        assert changed == expected[variant.group], name
        assert variant.config.estimator.num_pairs == 4
    assert variants["no_momentum"].config.optimizer.features == ("parameter", "adam_gradient")
    assert variants["no_time"].config.optimizer.timescales == ()
    assert variants["preset_metz2019"].config.optimizer == base.Mlp(preset="metz2019")
    assert variants["train_objective"].config.problem.objective == "train"


def test_the_base_is_what_the_config_says():
    config = dataclasses.replace(
        CONFIG,
        estimator=base.Merged(4, std=0.02),
        truncation=base.Constant(5),
        problem=base.InnerProblem(num_steps=40, objective="train"),
        optimizer=base.Mlp(preset="metz2019"),
    )
    variants = changes(config, [5, 20])
    assert next(iter(variants)) == "merged"
    assert variants["merged"] == ("merged, truncation 5", "base", config)
    assert variants["reparameterization"].label == "RP only"
    assert variants["reparameterization"].config.estimator == base.Reparameterization(4, std=0.02)
    assert {"fixed_5", "preset_metz2019", "train_objective"}.isdisjoint(variants)
    assert variants["valid_objective"].config.problem.objective == "valid"
    particles = dataclasses.replace(config, estimator=base.TruncatedBackprop(6))
    assert changes(particles, [])["merged"].config.estimator.num_pairs == 6
    named = dataclasses.replace(CONFIG, optimizer=base.NamedOptimizer("adam8"))
    assert "no_time" not in changes(named, [])
    with pytest.raises(ValueError, match="no_time changes what this config"):
        variants_of(named, ["no_time"], [], 20_000)


def test_variants_of_orthogonal_mlp():
    config = dataclasses.replace(CONFIG, optimizer=base.OrthogonalMlp())
    variants = changes(config, [])
    of = {name: variants[name].config.optimizer for name in variants if "direction" in name}
    assert of == {
        "adam_direction": base.OrthogonalMlp(direction="adam"),
        "momentum_direction": base.OrthogonalMlp(direction="momentum"),
    }
    assert variants["not_orthogonal"].config.optimizer == base.OrthogonalMlp(orthogonal=False)
    assert variants["not_told"].config.problem.share_told == 0.0
    assert "no_time" not in variants
    assert "adam_direction" not in changes(variants["adam_direction"].config, [])


def test_families_are_left_out_by_where_they_are_from():
    text = base.CustomFamily("tasks:char_family", kwargs={"width": 16})
    wide = dataclasses.replace(text, kwargs={"width": 32})
    digits = base.ClassSubset(num_train_classes=7)
    cifar = base.ClassSubset(dataset="imagenet_resized/32x32")
    config = dataclasses.replace(CONFIG, family=digits, extra_families=(text, cifar, wide))
    variants = changes(config, [])
    left = {
        name: (v.config.family, *v.config.extra_families)
        for name, v in variants.items()
        if v.group == "families"
    }
    assert left == {
        "without_digits": (text, cifar, wide),
        "without_char_family": (digits, cifar),
        "without_imagenet_resized_32x32": (digits, text, wide),
    }
    assert not [v for v in changes(CONFIG, []).values() if v.group == "families"]


def test_variants_of_one_s_own():
    own = own_variants(
        ("clip:outer-optimizer.clip=value,outer-optimizer.clip-at=0.1", "bp:estimator=merged"),
        CONFIG,
    )
    assert own["clip"].outer_optimizer == dataclasses.replace(
        CONFIG.outer_optimizer, clip="value", clip_at=0.1
    )
    assert own["bp"].estimator == base.Merged()
    check_own(CONFIG, own, [])
    assert variants_of(CONFIG, ["clip"], [], 20_000, own)["clip"].group == "own"
    for text, wrong in {
        "clip": "--variant takes NAME:FIELD=VALUE",
        "../x:seed=1": "--variant takes NAME:FIELD=VALUE",
        "a:outer-optimizer.clip": "--variant takes NAME:FIELD=VALUE",
        "a:outer-optimizer.clap=value": "unknown option --outer-optimizer.clap",
        "a:outer-optimizer.clip=hard": "must be one of global_norm, value, none",
    }.items():
        with pytest.raises(ValueError, match=wrong):
            own_variants((text,), CONFIG)
    with pytest.raises(ValueError, match="gives 'a' twice"):
        own_variants(("a:estimator.std=0.1", "a:estimator.std=0.2"), CONFIG)
    for text, wrong in {
        "merged:estimator.std=0.1": "'merged' is there already",
        "a:seed=3": "'a' changes seed, which all variants share",
        "a:problem.num-steps=30": "'a' changes problem.num_steps, which",
        "a:estimator.num-pairs=4": "'a' changes nothing",
    }.items():
        with pytest.raises(ValueError, match=wrong):
            check_own(CONFIG, own_variants((text,), CONFIG), [])


def test_names_and_lengths():
    assert checked_lengths("1000,10,50", 40) == [10, 40]
    assert checked_lengths("0.1%, 1%,10%,100%", 1000) == [1, 10, 100, 1000]
    known = list(changes(CONFIG, [10]))
    assert checked_names("fixed-10,merged,merged", known, {"mine": CONFIG}) == [
        "persistent_es", "fixed_10", "merged", "mine",
    ]  # fmt: skip
    assert checked_names("all", known, {"mine": CONFIG}) == [*known, "mine"]
    with pytest.raises(ValueError, match="unknown variant 'merge'; did you mean merged"):
        checked_names("merge", known, {})
    for wrong in ("10;20", "x%", "inf%", "%"):
        with pytest.raises(ValueError, match="whole numbers, or shares"):
            checked_lengths(wrong, 40)
    with pytest.raises(ValueError, match="at least 1"):
        checked_lengths("1%", 40)


def test_the_rate_of_the_lowest_known_loss(tmp_path, monkeypatch):
    losses = {0.1: np.nan, 0.01: 2.0, 0.001: 1.0}
    asked = []

    def run_seeds(variant, settings, seeds, evaluate):
        asked.append((variant.outer_rate, seeds, settings.num_points))
        loss = np.full((2, 4), losses[variant.outer_rate])
        return {seeds[0]: {"outer_train/outer_valid": loss}}

    monkeypatch.setattr(runs, "run_seeds", run_seeds)
    monkeypatch.setattr(runs, "content_of", lambda problem, variant: {})
    monkeypatch.setattr(rates, "evaluator", lambda *args: None)
    variants = {
        rate: runs.Variant("a", "a", {"rate": rate}, None, 7, (), None, outer_rate=rate)
        for rate in losses
    }
    settings = runs.Settings((0,), 0, 8, 4, 8, 10.0, 1)
    choose = lambda: rates.choose(tmp_path, runs.Problem((None,), None), "a", variants, settings)
    assert choose().rate == 0.001
    assert asked == [(rate, [rates.SEED], 1) for rate in losses]
    assert choose().losses[0.01] == 2.0
    assert len(asked) == 3  # what is there is not run again
    for rate in losses:
        losses[rate] = np.nan
    with pytest.raises(ValueError, match="a: the outer loss of none of these outer rates"):
        rates.choose(tmp_path / "new", runs.Problem((None,), None), "a", variants, settings)


COMMAND = [
    "ablate", "quadratic", "--family.dim", "2", "--estimator.num-pairs", "2", "--problem.num-steps",
    "8", "--truncation.num-steps", "4", "--lengths", "2,100%", "--num-inner-steps", "200",
    "--num-tasks", "2", "--num-points", "2", "--optimizer.hidden-sizes", "2", "--variants",
    "persistent_es", "--no-compilation-cache", "--num-devices", "1",
]  # fmt: skip


def test_an_ablation_goes_on_with_what_is_missing(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert main([*COMMAND, "--num-seeds", "1", "--out", str(out)]) == 0
    (first,) = json.loads((out / "ablation.json").read_text())["variants"]
    assert first["inner_steps"] == pytest.approx([200], abs=20)
    assert {"ablation.png", "table.md", "cells"} <= {path.name for path in out.iterdir()}
    optimizer, theta = load_theta(out / "thetas" / "persistent_es" / "0.npz")
    shapes = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert jax.tree.map(np.shape, theta) == jax.tree.map(np.shape, shapes)
    cell = runs.read_cell(out / "cells" / "persistent_es" / "0.npz")
    assert cell["outer_train/outer_valid"].shape == cell["held_out/test"].shape == (3, 2)
    assert cell["inner_steps"][[0, -1]].tolist() == [0, cell["truncation_inner_steps"][-1]]
    assert cell["metric/variance_persistent_es"].shape == cell["outer_loss"].shape
    assert (cell["metric/truncation_length"] == 4).all()
    assert (np.diff(cell["seconds_so_far"]) > 0).all()
    made = []

    def recorded(variant, settings, seeds, evaluate):
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
