"""`learned-opt search` makes a theta from a config alone."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import learned_opt
from configs import base
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.config_json import from_json
from learned_opt_lab.searches.run import run_search
from tests.support.lab.adam_starts import OPTIMIZER

CHEAP = {"population": 5, "num_steps": 40, "num_runs": 1}
CONFIG = """
from configs.base import *
from tests.support.lab.adam_starts import OPTIMIZER

search = StartSearch(num_generations=9, population=5, num_steps=40, num_runs=1)
config = TrainConfig(family=RandomQuadratic(dim=2), optimizer=OPTIMIZER, search=search)
"""


def test_a_start_is_found_from_the_command_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(CONFIG)
    out = tmp_path / "out"
    argv = [
        "search",
        str(tmp_path / "mine.py"),
        "--out",
        str(out),
        "--num-devices",
        "1",
        "--no-compilation-cache",
    ]
    assert main([*argv, "--generations", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in shown[:3]] == [
        f"search directory: {out}",
        "generation 1/2",
        "generation 2/2",
    ]
    assert shown[-2].startswith("the search ends at a score of ")
    assert shown[-1].startswith(f"next: learned-opt evaluate {out}")
    assert {"theta.npz", "theta.json", "search.json", "config.json"} <= {
        path.name for path in out.iterdir()
    }
    found = json.loads((out / "search.json").read_text())
    assert len(found["scores"]) == 2
    assert found["start"]["learning_rate"] == pytest.approx(np.exp(found["mean"][0]))
    kept = from_json(json.loads((out / "config.json").read_text()))
    assert kept.search == base.StartSearch(num_generations=2, **CHEAP)
    optimizer, theta = learned_opt.load_theta(out)
    # The fresh theta of the run's seed whose Adam starts as the search says.
    jax.tree.map(
        np.testing.assert_array_equal, theta, jax.device_get(optimizer.init(jax.random.key(0)))
    )
    assert main(argv) == 2
    assert "holds a result" in capsys.readouterr().err


def test_general_s_search_starts_from_the_weights_it_ships_beside(tmp_path):
    general = catalog.load("general")[0]
    search = dataclasses.replace(general.search, num_generations=1, **CHEAP)
    config = dataclasses.replace(
        general, family=base.RandomQuadratic(dim=2), extra_families=(), search=search
    )
    lines = []
    found, scores = run_search(config, tmp_path, tell=lines.append)
    assert len(found.mean) == 19 + 2 + 12
    assert scores[0].mean == pytest.approx(scores[0].start)
    assert len(lines) == 1
    theta = learned_opt.load_theta(tmp_path)[1]
    shipped = learned_opt.load_theta("general")[1]
    assert jax.tree.map(np.shape, theta) == jax.tree.map(np.shape, shipped)
    # What the search does not move is as it ships, to the bit.
    np.testing.assert_array_equal(
        theta["layer_0"]["weights"][:, 4:-2], shipped["layer_0"]["weights"][:, 4:-2]
    )
    np.testing.assert_array_equal(theta["layer_1"]["weights"], shipped["layer_1"]["weights"])


def test_a_config_without_a_search_has_none(tmp_path):
    with pytest.raises(ValueError, match="the config has no `search`"):
        run_search(dataclasses.replace(base.TrainConfig(), optimizer=OPTIMIZER), tmp_path)
