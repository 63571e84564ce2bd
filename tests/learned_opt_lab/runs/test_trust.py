"""What a stranger's config or run names is not imported without `--trust`;
what the user types himself is.
"""

import collections
import copy
import dataclasses
import json
import sys
import time

import jax
import numpy as np
import pytest

import learned_opt
from configs import base
from learned_opt.catalog import NotTrusted
from learned_opt_lab.cli.commands.train import Args
from learned_opt_lab.cli.main import main
from learned_opt_lab.cli.parsing import parse_with_config
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.build import build
from learned_opt_lab.runs.config_json import from_json, to_json
from learned_opt_lab.runs.families import FAMILIES, build_family, check_trusted
from learned_opt_lab.runs.optimizer import initial_theta
from tests.support.learned_opt.mutations import VALUES, mutated_json

CONFIG = dataclasses.replace(catalog.load("quadratic")[0], estimator=base.PersistentES(num_pairs=2))
SECONDS = 120.0
"""For one config on a busy machine."""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module in the working directory that leaves a file behind when it is imported;
    gives the file's path.
    """
    directory = tmp_path / "stranger"
    directory.mkdir()
    touched = tmp_path / "touched"
    (directory / "stranger.py").write_text(
        f"import pathlib\npathlib.Path({str(touched)!r}).touch()\n"
        "from learned_opt import mlp\n"
        "from tasks.analytic.random_quadratic import random_quadratic_family\n"
        "def optimizer(width=4):\n    return mlp((width,))\n"
        "def family(dim=3):\n    return random_quadratic_family(dim)\n"
    )
    path = list(sys.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(directory)
    cache = jax.config.jax_compilation_cache_dir
    yield touched
    jax.config.update("jax_compilation_cache_dir", cache)
    sys.modules.pop("stranger", None)
    sys.path[:] = path


NAMING = {
    "family": {"family": base.CustomFamily("stranger:family")},
    "held-out family": {"family": base.CustomFamily("tasks:char_family", "stranger:family")},
    "extra family": {"extra_families": (base.CustomFamily("stranger:family"),)},
    "optimizer": {"optimizer": base.NamedOptimizer("stranger:optimizer")},
}


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
def test_300_mutations(stranger, capsys):
    counts = fuzz(300, stranger, most_builds=300)
    with capsys.disabled():
        print(f"\nconfigs: 300 mutations, {dict(counts)}, 0 executed, 0 hung")
    assert counts["built"] < 300


def test_a_run_s_config_is_a_config_without_its_author_s_code(stranger, tmp_path, capsys):
    config = dataclasses.replace(CONFIG, **NAMING["family"])
    path = tmp_path / "made" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(to_json(config)))
    read, file = catalog.load(str(path))
    assert (read, file, catalog.name_of(str(path))) == (config, None, "made")
    argv = ["train", str(path), "--run-dir", str(tmp_path / "run"), "--no-compilation-cache"]
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'stranger' would be imported and run" in line
    assert not stranger.exists()
    assert parse_with_config(Args, argv[1:], "train").config == config
    trusted = parse_with_config(Args, [*argv[1:], "--trust", "--seed", "3"], "train").config
    assert trusted == dataclasses.replace(config, seed=3)
    assert not stranger.exists()
    check_trusted(trusted)
    build_family(trusted.family)
    assert stranger.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no valid JSON"),
        ("[1]", "must hold a JSON object, got a list"),
        ('{"type": "Merged"}', "holds no config of a run"),
        ('{"type": "TrainConfig", "sead": 1}', "has no field 'sead'; did you mean seed"),
    ],
)
def test_a_json_file_that_is_no_config(text, message, tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(text)
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert message in line
