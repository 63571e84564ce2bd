"""A kind registered from outside is one for the command line, JSON,
`list`, `variance`, `ablate` and `build`.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs import base
from configs.base import kinds
from learned_opt_lab.ablation.variants import changes, variants_of
from learned_opt_lab.cli.commands.train import Args
from learned_opt_lab.cli.commands.variance import checked_names
from learned_opt_lab.cli.main import main
from learned_opt_lab.cli.parsing import parse_with_config
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.build import build
from learned_opt_lab.runs.builders import builder_of
from learned_opt_lab.runs.config_json import from_json, to_json
from outer_train.estimators import evolution_strategies

ROOT = Path(__file__).parents[2]


def toy_es(problem, num_pairs, std, axis_name=None, *, x, **options):
    """Evolution strategies of x times the perturbation."""
    return evolution_strategies(problem, num_pairs, x * std, axis_name, **options)


@dataclasses.dataclass(frozen=True)
class Toy(base.PairEstimator):
    """A toy: more or less evolution strategies."""

    builds = toy_es
    word = "toy"

    x: float = 1.0
    """Factor of the perturbation."""


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(kinds, "_KINDS", dict(kinds._KINDS))
    return base.register(Toy)


def test_a_toy_is_not_known_before():
    assert "toy" not in base.kinds_of(base.Estimator)
    with pytest.raises(AttributeError, match="no attribute 'Toy'"):
        base.Toy
    with pytest.raises(ValueError, match="unknown config type 'Toy'"):
        from_json({"type": "Toy"})
    with pytest.raises(ValueError, match="estimator:toy"):
        parse_with_config(Args, ["quadratic", "estimator:toy"], "learned-opt train")


def test_a_toy_is_chosen_on_the_command_line(toy, capsys):
    argv = ["quadratic", "estimator:toy", "--estimator.x", "3", "--estimator.num-pairs", "4"]
    assert parse_with_config(Args, argv, "learned-opt train").config.estimator == Toy(
        num_pairs=4, x=3.0
    )
    assert main(["train", "quadratic", "estimator:toy", "--help-all"]) == 0
    shown = capsys.readouterr().out
    assert "--estimator.x" in shown
    assert "Factor of the perturbation." in shown


def test_a_toy_is_listed_compared_and_ablated(toy, capsys):
    assert main(["list", "estimators"]) == 0
    assert (
        "  toy                    A toy: more or less evolution strategies."
        in capsys.readouterr().out.splitlines()
    )
    assert checked_names("toy,merged") == ["toy", "merged"]
    assert checked_names(None)[-1] == "toy"
    config, _ = catalog.load("quadratic")
    assert "toy" in changes(config, [10])
    (variant,) = variants_of(config, ["toy"], [10], 20_000).values()
    assert (variant.label, variant.config.estimator.num_pairs) == ("toy", 16)


def test_a_toy_goes_through_json_and_builds(toy):
    config = dataclasses.replace(
        catalog.load("quadratic")[0],
        estimator=base.Toy(num_pairs=2, x=0.1 + 0.2),
        optimizer=base.Mlp(hidden_sizes=(2,)),
    )
    read = from_json(json.loads(json.dumps(to_json(config))))
    assert read == config
    assert type(read.estimator) is Toy
    assert build(read, num_devices=2).mesh.size == 2


def test_variance_leaves_out_what_is_costly():
    assert checked_names(None) == [
        "evolution_strategies", "reparameterization", "merged", "persistent_es", "noise_reuse_es",
        "truncated_backprop",
    ]  # fmt: skip


def test_what_is_no_kind_is_refused(toy):
    with pytest.raises(ValueError, match="a kind is a frozen dataclass with `builds`, got Thawed"):
        base.register(dataclasses.dataclass(type("Thawed", (base.Estimator,), {"builds": toy_es})))
    with pytest.raises(ValueError, match="a kind is a frozen dataclass with `builds`, got Idle"):
        base.register(dataclasses.dataclass(frozen=True)(type("Idle", (base.Estimator,), {})))
    other = dataclasses.dataclass(frozen=True)(
        type("Other", (base.Estimator,), {"builds": toy_es, "word": "toy"})
    )
    with pytest.raises(ValueError, match=r"Other \(toy\): the name or the word is Toy's already"):
        base.register(other)
    stranger = dataclasses.dataclass(frozen=True)(
        type("Stranger", (base.Estimator,), {"builds": "os:system"})
    )
    with pytest.raises(ValueError, match="a kind of your own gives the function itself"):
        builder_of(base.register(stranger))
    assert base.register(Toy) is Toy


@pytest.mark.parametrize("name", base.registered())
def test_every_kind_builds_something_that_exists(name):
    kind = base.registered()[name]
    assert callable(builder_of(kind))
    assert kind.word.replace("-", "").isalnum()


def test_the_words_that_users_type():
    words = {role: [kind.word for kind in base.kinds_of(role).values()] for role in ROLES}
    assert words == ROLES


ROLES = {
    base.Family: ["class-subset", "quadratic", "custom"],
    base.Optimizer: ["mlp", "orthogonal-mlp", "named"],
    base.Estimator: [
        "evolution-strategies", "reparameterization", "merged", "persistent-es", "noise-reuse-es",
        "truncated-backprop", "forward-mode", "full-es",
    ],
    base.Truncation: ["constant", "linear", "log-uniform"],
}  # fmt: skip


def test_the_guide_says_of_estimators_what_their_classes_say():
    text = (ROOT / "docs/guides/choose_an_estimator.md").read_text(encoding="utf-8")
    table = text[text.index("| estimator | bias | variance |") :].partition("\n\n")[0]
    rows = ["|".join(row.split("|")[:4]) for row in table.splitlines()[2:]]
    kinds = base.kinds_of(base.Estimator).items()
    said = [f"| `{name}` | {kind.bias} | {kind.variance} " for name, kind in kinds]
    assert sorted(rows) == sorted(said)
    assert len(rows) > 7


def test_configs_import_no_jax():
    heavy = ("jax", "tasks", "optax")
    code = f"import sys, configs.general; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
