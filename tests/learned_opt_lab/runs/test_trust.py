"""What a stranger's config or run names is not imported without `--trust`;
what the user types himself is.
"""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

import learned_opt
from configs import base
from learned_opt.catalog import NotTrusted
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.build import build
from learned_opt_lab.runs.config_json import from_json, to_json
from learned_opt_lab.runs.families import FAMILIES, check_trusted
from learned_opt_lab.runs.optimizer import initial_theta
from tests.support.lab.strangers import CONFIG, NAMING


@pytest.mark.parametrize("what", NAMING)
def test_a_config_of_a_file_is_built_without_its_author_s_code(what, stranger):
    config = dataclasses.replace(CONFIG, **NAMING[what])
    read = from_json(json.loads(json.dumps(to_json(config))))
    assert read == config
    for use in (check_trusted, build):
        with pytest.raises(NotTrusted, match="'stranger' would be imported and run"):
            use(read)
        with pytest.raises(NotTrusted):
            use(dataclasses.replace(read, seed=3))
    assert not stranger.exists()
    check_trusted(from_json(to_json(config), trust=True))
    check_trusted(config)


def test_trusted_and_typed_names_are_built(stranger):
    config = dataclasses.replace(CONFIG, **NAMING["family"], **NAMING["optimizer"])
    for each in (config, from_json(to_json(config), trust=True)):
        assert build(each, num_devices=1).theta["layer_0"]["weights"].shape == (16, 4)
    assert stranger.exists()


def test_the_project_s_own_families_need_no_trust():
    for name in FAMILIES:
        check_trusted(
            from_json(to_json(dataclasses.replace(CONFIG, family=base.CustomFamily(name))))
        )
    for name in catalog.CONFIGS:
        check_trusted(from_json(to_json(catalog.load(name)[0])))


@pytest.mark.parametrize("what", NAMING)
def test_resume_of_a_stranger_s_run(what, stranger, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    config = to_json(dataclasses.replace(CONFIG, **NAMING[what]))
    (run / "config.json").write_text(json.dumps(config))
    (run / "versions.json").write_text(
        json.dumps({"config_file": str(tmp_path / "elsewhere" / "config.py")})
    )
    assert main(["resume", str(run)]) == 2
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    for part in (str(run / "config.json"), "'stranger:", "--trust", "imported"):
        assert part in shown
    assert not stranger.exists()
    assert "stranger" not in sys.modules
    assert str(tmp_path / "elsewhere") not in sys.path


@pytest.fixture
def weights(tmp_path, stranger):
    """A theta file whose JSON names the stranger's code."""
    theta = learned_opt.mlp((4,)).init(jax.random.key(0))
    path = learned_opt.save(
        tmp_path / "weights" / "theta.npz", "mlp", {"hidden_sizes": (4,)}, theta
    )
    header = json.loads(path.with_suffix(".json").read_text())
    changed = {"optimizer": "stranger:optimizer", "kwargs": {"width": 4}}
    path.with_suffix(".json").write_text(json.dumps(header | changed))
    return path


def test_evaluate_and_init_theta_of_a_stranger_s_weights(weights, stranger, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--no-compilation-cache"]
    for command in (
        ["evaluate", str(weights), *out],
        ["evaluate", f"mine={weights.parent}", *out],
        ["train", "quadratic", "--init-theta", str(weights), "--run-dir", str(tmp_path / "run")],
        ["variance", "quadratic", "--theta", str(weights), *out],
    ):
        assert main(command) == 2
        shown = capsys.readouterr().err
        assert len(shown.splitlines()) <= 2
        assert str(weights) in shown
        assert "'stranger:optimizer' is not of this library" in shown
        assert "--trust" in shown
        assert not stranger.exists()
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()
    assert (
        main(
            [
                "train",
                "quadratic",
                "--trust",
                "--init-theta",
                str(weights),
                "--run-dir",
                str(tmp_path / "r"),
            ]
        )
        == 2
    )
    # Read by trust, and of 4 units.
    assert "holds the theta of another optimizer" in capsys.readouterr().err


def test_weights_of_the_run_s_own_code_are_judged_by_that_code(weights, stranger):
    """Its name was typed by the user, so there is nothing to import for the file."""
    own = learned_opt.mlp((4,))
    untrained = own.init(jax.random.key(1))
    theta = initial_theta(str(weights), own, untrained, name="stranger:optimizer")
    np.testing.assert_array_equal(theta["layer_1"]["bias"], np.load(weights)["layer_1/bias"])
    with pytest.raises(NotTrusted):
        initial_theta(str(weights), own, untrained, name="other:optimizer")
    with pytest.raises(NotTrusted):
        initial_theta(str(weights), own, untrained, name="mlp")
    assert not stranger.exists()


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:getoutput", "builtins:dict", "math:sqrt"]
)
def test_python_s_own_functions_are_no_factories_even_where_typed(name):
    for config in (
        dataclasses.replace(CONFIG, family=base.CustomFamily(name)),
        dataclasses.replace(CONFIG, optimizer=base.NamedOptimizer(name)),
    ):
        with pytest.raises(ValueError, match=r"must return a|does not take the"):
            build(config)
