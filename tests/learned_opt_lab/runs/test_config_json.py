"""A config goes through JSON exactly, and what is wrong in it is named."""

import json

import pytest

from configs import base
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.config_json import from_json, to_json


def every_kind():
    """A config for each kind of each field,
    with values a float cannot hold exactly and nested tuples.
    """
    yield base.TrainConfig(
        extra_families=(base.ClassSubset(hidden_sizes=(3, 4)), base.RandomQuadratic(weight=0.5))
    )
    yield base.TrainConfig(
        family=base.CustomFamily("m:f", "", {"a": 0.1, "b": True, "c": "x", "d": 3})
    )
    yield base.TrainConfig(optimizer=base.Mlp(momentum_decays=(), timescales=(0.1, 1 / 3)))
    for cls in (base.EvolutionStrategies, base.Reparameterization, base.Merged, base.NoiseReuseES):
        yield base.TrainConfig(estimator=cls(std=0.1 + 0.2))
    yield base.TrainConfig(
        estimator=base.TruncatedBackprop(), truncation=base.Linear(), init_theta="x"
    )
    yield base.TrainConfig(estimator=base.ForwardMode(num_directions=3))
    yield base.TrainConfig(estimator=base.FullES(), search=base.StartSearch(exponent_std=0.1 + 0.2))
    yield base.TrainConfig(
        search=base.StepSearch(added={"parameter": (0.1, 1 / 3)}, gate={"times": ()})
    )
    yield base.TrainConfig(
        truncation=base.LogUniform(), optimizer=base.NamedOptimizer("mlp", {"preset": "metz2019"})
    )
    for name in catalog.CONFIGS:
        yield catalog.load(name)[0]


def test_json_goes_back_exactly():
    for config in every_kind():
        text = json.dumps(to_json(config))
        again = from_json(json.loads(text))
        assert again == config
        assert json.dumps(to_json(again)) == text


def test_a_config_of_a_version_without_searches_is_read():
    old = {
        name: value for name, value in to_json(base.TrainConfig(seed=3)).items() if name != "search"
    }
    assert from_json(old) == base.TrainConfig(seed=3)


START = {
    "adam_learning_rate": 0.02,
    "adam_exponents": [0.5],
    "adam_time_exponents": None,
    "adam_weight_decay": 0.01,
}


def test_the_start_of_an_mlp_may_be_four_of_its_fields():
    fields = {"type": "Mlp", "hidden_sizes": [4]}
    start = base.StartAsAdam(0.02, (0.5,), weight_decay=0.01)
    assert from_json(fields | START) == base.Mlp(hidden_sizes=(4,), start=start)
    assert from_json(fields | dict.fromkeys(START)) == base.Mlp(hidden_sizes=(4,))
    for changes, message in (
        ({"adam_learning_rate": "0.02"}, "StartAsAdam.learning_rate cannot be '0.02'"),
        ({"start": to_json(start)}, "Mlp: got both 'start' and 'adam_learning_rate'"),
        ({"adam_rate": 0.1}, "Mlp has no field 'adam_rate'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_json(fields | START | changes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "TrainConfg"}, "unknown config type 'TrainConfg'; did you mean TrainConfig"),
        (
            {"type": "Constant", "num_step": 3},
            "Constant has no field 'num_step'; did you mean num_steps?",
        ),
    ],
)
def test_json_names_what_is_wrong(value, message):
    with pytest.raises(ValueError, match=message):
        from_json(value)


def test_a_whole_number_beyond_the_integers_of_jax_is_the_float_its_field_holds():
    read = from_json({"type": "RandomQuadratic", "dim": 2, "weight": 2**63 - 1})
    assert type(read.weight) is float
    assert type(from_json({"type": "RandomQuadratic", "dim": 2, "weight": 3}).weight) is int
