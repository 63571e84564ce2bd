"""Ablations: cells that are there are not run again,
statistics against closed forms, budgets of inner steps.
"""

import json

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt_lab.ablation.comparisons import along, at_equal_seconds, crossed_bootstrap
from learned_opt_lab.ablation.figure import ablation_figure, along_figure
from learned_opt_lab.ablation.report import table, untrained
from learned_opt_lab.ablation.results import results
from learned_opt_lab.ablation.runs import (
    Settings,
    Variant,
    prepare_folder,
    read_cell,
    write_cell,
)
from learned_opt_lab.ablation.scoring import evaluator
from learned_opt_lab.evaluation.measures import measuring_interval
from learned_opt_lab.results.folder import finite
from tasks import random_quadratic_family

SETTINGS = Settings(
    seeds=(0, 1, 2), seed=0, num_steps=20, num_tasks=4, num_points=2, loss_cap=10.0, seeds_at_once=3
)  # fmt: skip


def cell(loss, seed):
    """A run whose tasks end at `loss` + .01 x task, and whose test loss is a tenth more."""
    rng = np.random.default_rng(seed)
    tasks = 0.01 * np.arange(4) + 0.001 * rng.normal(size=4)
    curve = np.stack([2 + tasks, 1 + tasks, loss + tasks])
    names = ("outer_train/outer_valid", "held_out_final/test", "held_out_final/train")
    return {
        "inner_steps": np.array([0, 100, 200]),
        "seconds_so_far": np.array([0.0, 1.0, 3.0]),
        "held_out/test": 1.1 * curve,
        **dict.fromkeys(names, curve),
    }


GROUPS = {"merged": "base", "train_objective": "objective", "no_time": "inputs"}


def variant(name, **more):
    group = "truncation" if name.startswith("fixed_") else GROUPS.get(name, "estimator")
    return Variant(name, name, {}, None, 7, (), None, group, **more)


def found(**losses):
    variants = [variant(name) for name in losses]
    cells = {name: {seed: cell(loss, seed) for seed in range(3)} for name, loss in losses.items()}
    return results(variants, cells, SETTINGS)


def test_best_and_within_noise():
    result = found(merged=0.5, persistent_es=0.4, fixed_10=0.4 + 1e-9, train_objective=0.6)
    assert result["best"] == "persistent_es"
    rows = {row["variant"]: row for row in result["variants"]}
    assert [row["variant"] for row in result["variants"]][-1] == "train_objective"
    # Paired: the tasks' own spread of .03 is not in the differences, which are exact here.
    for name, difference in (("merged", 0.1), ("train_objective", 0.2)):
        assert rows[name]["difference_to_best"]["estimate"] == pytest.approx(difference)
        assert rows[name]["difference_to_best"]["low"] == pytest.approx(difference)
        assert not rows[name]["within_noise_of_best"]
    assert rows["persistent_es"]["within_noise_of_best"]
    assert rows["merged"]["outer_loss"]["estimate"] == pytest.approx(0.515, abs=2e-3)
    assert rows["merged"]["held_out_test_loss"]["estimate"] == pytest.approx(1.1 * 0.515, abs=2e-3)
    assert result["objective"]["test_loss"]["difference"]["estimate"] == pytest.approx(0.11)
    assert "not within noise of best: 0.1 [0.1, 0.1]" in result["findings"][1]
    assert "after training on L_valid is lower" in result["findings"][2]
    assert "| persistent_es | 3 | 7 |" in table(result)
    # The base less a variant, and the base has none.
    assert rows["persistent_es"]["base_less_variant"]["high"] == pytest.approx(0.1)
    assert rows["merged"]["base_less_variant"] is None
    assert (result["base"], rows["fixed_10"]["group"]) == ("merged", "truncation")
    spread = rows["merged"]["spread_over_seeds"]
    assert 0 < spread["deviation"] < spread["highest"] - spread["lowest"] < 2e-3
    assert json.loads(json.dumps(result))["num_seeds"] == 3


def test_the_figure_shows_every_variant_once():
    figure = ablation_figure(found(merged=0.5, persistent_es=0.4, no_time=0.45))
    curves = [line.get_label() for axes in figure.axes[:-1] for line in axes.get_lines()]
    assert sorted(set(curves)) == ["merged", "no_time", "persistent_es"]
    assert curves.count("merged") == 2
    assert len(figure.axes[-1].get_yticks()) == 3


def test_crossed_bootstrap_covers_both_kinds_of_spread():
    rng = np.random.default_rng(0)
    seeds, tasks = rng.normal(size=(40, 1)), rng.normal(size=(1, 50))
    interval = crossed_bootstrap(seeds + tasks)
    assert interval.estimate == pytest.approx(seeds.mean() + tasks.mean())
    # Variances of the two means add up; treating all 2000 cells as independent would give .03.
    expected = 2 * 1.96 * np.sqrt(seeds.var() / 40 + tasks.var() / 50)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


def test_cells_come_back_and_damaged_ones_are_run_again(tmp_path):
    path = tmp_path / "cells" / "merged" / "0.npz"
    assert read_cell(path) is None
    write_cell(path, cell(0.5, 0))
    np.testing.assert_array_equal(read_cell(path)["inner_steps"], [0, 100, 200])
    assert {file.name for file in path.parent.iterdir()} == {"0.json", "0.npz"}
    path.write_bytes(path.read_bytes()[:100])
    assert read_cell(path) is None


def test_another_ablation_does_not_go_in(tmp_path):
    prepare_folder(tmp_path / "a", {"num_tasks": 4, "seed": 0})
    prepare_folder(tmp_path / "a", {"num_tasks": 4, "seed": 0})
    with pytest.raises(ValueError, match="num_tasks is 4, not 5"):
        prepare_folder(tmp_path / "a", {"num_tasks": 5, "seed": 0})
    with pytest.raises(ValueError, match="is no ablation"):
        prepare_folder(tmp_path, {})


def test_measuring_interval_divides():
    assert [measuring_interval(n) for n in (20, 80, 100, 300, 1000, 997)] == [1, 2, 2, 6, 25, 1]


def unknown_cell(seed, held_out=True):
    made = cell(0.5, seed) | {"outer_loss": np.full(7, np.nan)}
    return (
        made
        if held_out
        else {name: value for name, value in made.items() if not name.startswith("held_out")}
    )


def results_of(cells):
    seeds = tuple(next(iter(cells.values())))
    return results([variant(name) for name in cells], cells, SETTINGS._replace(seeds=seeds))


def test_an_unknown_loss_is_never_the_best_and_the_last():
    bad = cell(0.1, 0)
    bad["outer_train/outer_valid"] = np.full((3, 4), np.nan)
    cells = {
        "merged": dict.fromkeys(range(2), bad),
        "persistent_es": {s: cell(0.4, s) for s in range(2)},
    }
    result = results_of(cells)
    assert result["best"] == "persistent_es"
    assert [row["variant"] for row in result["variants"]] == ["persistent_es", "merged"]
    assert result["variants"][1]["within_noise_of_best"] is None
    assert "| merged | 2 | 7 |  | unknown | unknown | unknown | unknown |" in table(result)
    ablation_figure(finite(result))
    with pytest.raises(ValueError, match="outer loss of none"):
        results_of({"merged": dict.fromkeys(range(2), bad)})


def test_one_seed_has_no_interval():
    result = results_of(
        {name: {0: cell(loss, 0)} for name, loss in (("merged", 0.5), ("persistent_es", 0.4))}
    )
    best, other = result["variants"]
    assert np.isnan([best["outer_loss"]["low"], other["difference_to_best"]["high"]]).all()
    assert (best["within_noise_of_best"], other["within_noise_of_best"]) == (True, None)
    assert "Within noise of it: unknown" in result["findings"][0]
    assert "[unknown]" in table(result)
    assert "nan" not in table(result)


def test_runs_without_a_finite_loss_are_told():
    result = results_of(
        {
            "merged": {s: unknown_cell(s) for s in range(2)},
            "fixed_10": {s: cell(0.4, s) for s in (0, 1)},
        }
    )
    ((row, count),) = untrained(result)
    assert (row["variant"], count) == ("merged", 2)
    assert "merged: in 2 of its runs no outer loss was finite." in result["findings"]


def test_without_a_held_out_family_there_is_no_held_out_loss():
    cells = {
        n: {s: unknown_cell(s, held_out=False) for s in range(2)}
        for n in ("merged", "train_objective")
    }
    result = results_of(cells)
    assert result["objective"] is None
    assert np.isnan(result["variants"][0]["held_out_test_loss"]["estimate"])
    assert result["variants"][0]["outer_loss"]["estimate"] == pytest.approx(0.515, abs=2e-3)


def test_seeds_of_their_own_are_paired():
    cells = {
        "merged": {seed: cell(0.5 + seed, seed) for seed in range(3)},
        "fixed_10": {seed: cell(0.4 + seed, seed) for seed in range(2)},
    }
    variants = [variant("merged"), variant("fixed_10", seeds=2)]
    assert variants[1].seeds_of(SETTINGS) == (0, 1)
    result = results(variants, cells, SETTINGS)
    rows = {row["variant"]: row for row in result["variants"]}
    assert [rows[name]["num_seeds"] for name in cells] == [3, 2]
    # Of the seeds that both have: the third of the base has no part in it.
    assert rows["fixed_10"]["base_less_variant"]["low"] == pytest.approx(0.1)
    assert rows["fixed_10"]["spread_over_seeds"]["deviation"] == pytest.approx(2**-0.5, abs=0.01)


def test_at_equal_seconds():
    """The base was done after 3 seconds, the other needs 6: at 3 it is half-way from 1 to 0.4."""
    slow = {seed: cell(0.4, seed) for seed in range(2)}
    for each in slow.values():
        each["seconds_so_far"] = np.array([0.0, 1.0, 5.0])
    base = {seed: cell(0.5, seed) for seed in range(2)}
    for ours, theirs, sign in ((base, slow, 1), (slow, base, -1)):
        equal = at_equal_seconds(ours, theirs)
        assert equal["seconds"] == 3
        assert sign * equal["base_less_variant"]["estimate"] == pytest.approx(0.5 - 0.7)
        assert equal["base_less_variant"]["low"] == pytest.approx(-0.2 * sign)


def test_variances_along_the_curriculum():
    steps = np.arange(100)
    metrics = {
        "metric/truncation_length": 10.0 + steps,
        "metric/variance_reparameterization": np.where(steps < 50, 1e-3, 1e3).astype(np.float32),
        "metric/variance_evolution_strategies": np.full(100, 2.0, np.float32),
        "metric/weight_reparameterization": np.where(steps < 50, 1.0, 0.0),
    }
    spoilt = {name: values.copy() for name, values in metrics.items()}
    spoilt["metric/variance_reparameterization"][0] = np.nan  # unknown: left out
    spoilt["metric/variance_reparameterization"][95:] = np.inf
    cells = [cell(0.5, 0) | each for each in (metrics, spoilt)]
    found = along(cells)
    assert len(found["outer_step"]) == 20
    assert found["truncation_length"][0] == 12
    np.testing.assert_allclose(found["variance_ratio"][:10], 5e-4, rtol=1e-6)
    np.testing.assert_allclose(found["variance_ratio"][10:19], 500)
    assert found["variance_ratio"][19] == np.inf
    np.testing.assert_allclose(found["weight_reparameterization"], [1] * 10 + [0] * 10)
    assert along([cell(0.5, 0)]) is None
    both = {"merged": dict(enumerate(cells)), "persistent_es": {s: cell(0.4, s) for s in (0, 1)}}
    result = results_of(both)
    assert "RP's variance comes to infinite, at truncations of 107, where" in " ".join(
        result["findings"]
    )
    figure = along_figure(finite(result))
    (line, _), _ = (axes.get_lines() for axes in figure.axes)
    assert np.isfinite(line.get_ydata()).sum() == 19
    without = results_of({"merged": {seed: cell(1, seed) for seed in range(2)}})
    assert without["variants"][0]["along"] is None
    assert along_figure(finite(without)) is None


def test_tasks_of_all_families_count_as_outer_training_counts_them():
    families = [
        random_quadratic_family(dim=3)._replace(num_steps=steps, weight=weight)
        for steps, weight in ((None, 1.0), (7, 3.0))
    ]
    optimizer = learned_opt.mlp()
    thetas = jax.vmap(optimizer.init)(jax.random.split(jax.random.key(0), 2))

    def losses(members, **more):
        return evaluator({"a": members}, optimizer, SETTINGS._replace(**more))(thetas)

    both, first = losses(families), losses(families[:1])
    assert {name: of.shape for name, of in both.items()} == dict.fromkeys(first, (2, 8))
    for name in first:
        np.testing.assert_allclose(both[name][:, :4], first[name], rtol=1e-5)
    light = losses([families[0], families[1]._replace(weight=1.0)])
    np.testing.assert_allclose(both["a/test"][:, 4:], 3.0 * light["a/test"][:, 4:], rtol=1e-5)
    # The mean of logarithms is below the logarithm of the mean.
    logs = losses(families[:1], log_offset=0.1)["a/test"]
    assert np.all(logs < np.log(first["a/test"] + 0.1))
    assert np.all(logs > np.log(first["a_final/test"] + 0.1) - 1.0)
    # Of two steps the second counts four times as much.
    short = [families[0]._replace(num_steps=2)]
    mean, late = losses(short), losses(short, late=True)["a/test"]
    of_both = (2 * mean["a/test"] + 3 * mean["a_final/test"]) / 5
    np.testing.assert_allclose(late, of_both, rtol=1e-5)
    assert not np.allclose(late, mean["a/test"], rtol=1e-6)
