"""Optimizers of a user's own: any factory by name, its file, and what is wrong with either."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_lab.evaluation.rivals.outside import named_rival
from learned_opt_lab.evaluation.rivals.table import RIVALS
from learned_opt_lab.evaluation.suite.entries import parse_entries

MODULE = """
import jax
import jax.numpy as jnp
import numpy as np
import optax

def rated(learning_rate=0.5, b1=0.9):
    return optax.sgd(learning_rate, momentum=b1)

def fixed(num_steps):
    return optax.scale(-1.0 / num_steps)

def weighted(weights, num_steps):
    return optax.scale(-float(np.load(weights)["scale"]) / num_steps)

def decides(learning_rate, b1):
    return optax.sgd(learning_rate, momentum=b1 if b1 > 0.5 else None)

def anything(**kwargs):
    return optax.adam(**kwargs)

def number():
    return 3

def fails_later(learning_rate=1.0):
    def update(updates, state, params=None):
        raise RuntimeError("not today")
    return optax.GradientTransformation(lambda params: (), update)

def other_tree(learning_rate=1.0):
    update = lambda updates, state, params=None: (jnp.zeros(3), state)
    return optax.GradientTransformation(lambda params: (), update)

def breaks(learning_rate=1.0):
    raise RuntimeError("no luck\\ntoday")

constant = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """A fresh module `mine` in the working directory, which is looked into last."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


def searched(rival):
    """Names of the hyperparameters that differ between draws."""
    return {name for name, values in rival.space.draw(50, 0).items() if len(set(values)) > 1}


def write(text, name="space.toml"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def updates(rival, row=0, budget=1, num_steps=10):
    """The first two updates of a drawn configuration."""
    drawn = {name: jnp.float32(v[row]) for name, v in rival.space.draw(budget, 0).items()}
    params = {"w": jnp.float32(2.0)}
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.with_extra_args_support(rival.optimizer(drawn, num_steps))
        state, found = optimizer.init(params), []
        for _ in range(2):
            update, state = optimizer.update({"w": jnp.float32(1.0)}, state, params, value=1.0)
            found.append(float(update["w"]))
    return found


def test_a_factory_with_a_rate_is_searched_around_it():
    rival = named_rival("mine:rated")
    assert updates(rival) == pytest.approx([-0.5, -0.95])
    rates = rival.space.draw(200, 0)["learning_rate"]
    assert 0.005 <= rates.min() < 0.01 < 10 < rates.max() <= 50.01
    assert set(rival.space.axes) == {"learning_rate", "schedule", "warmup"}


def test_one_without_a_rate_is_searched_as_a_learned_one():
    rival = named_rival("mine:fixed")
    assert rival.takes_num_steps
    assert updates(rival, num_steps=20) == pytest.approx([-0.05, -0.05])
    assert set(rival.space.axes) == {"learning_rate", "weight_decay", "schedule", "warmup"}
    linear = named_rival("mine:fixed@linear")
    assert updates(linear, num_steps=10) == pytest.approx([-0.1, -0.09])


def test_a_file_gives_defaults_constants_and_ranges():
    path = write(
        "[given]\nnesterov = true\n[default]\nlearning_rate = 0.1\nb1 = 0.5\nb2 = 0.99\n"
        "[search]\nlearning_rate = { low = 0.01, high = 1.0 }\nb1 = { values = [0.8, 0.95] }\n"
        'schedule = { values = ["cosine"] }\nwarmup = { low = 0.0, high = 0.1, scale = "linear" }\n'
    )
    rival = named_rival(f"mine:anything@{path}")
    drawn = rival.space.draw(50, 0)
    assert drawn["learning_rate"][0] == np.float32(0.1)
    assert 0.01 <= drawn["learning_rate"][1:].min() <= drawn["learning_rate"].max() <= 1.0
    assert set(drawn["b1"][1:]) == {np.float32(0.8), np.float32(0.95)}
    assert set(drawn["b2"]) == {np.float32(0.99)}
    assert 0 <= drawn["warmup"].min() <= drawn["warmup"].max() <= 0.1
    assert rival.space.default["schedule"] == "constant"
    adam = optax.adam(0.1, b1=0.5, b2=0.99, nesterov=True)
    params, state, expected = {"w": jnp.float32(2.0)}, None, []
    state = adam.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(2):
            update, state = adam.update({"w": jnp.float32(1.0)}, state)
            expected.append(float(update["w"]))
    assert updates(rival) == pytest.approx(expected, rel=1e-5)


def test_a_rival_of_the_table_with_another_schedule_or_file():
    cosine = named_rival("adam@cosine")
    assert cosine.space.default["schedule"] == "cosine"
    assert cosine.space.default["learning_rate"] == 1e-3
    path = write("[search]\nlearning_rate = { low = 1e-4, high = 1e-2 }\n")
    narrow = named_rival(f"adam@{path}")
    assert narrow.space.default == RIVALS["adam"].space.default
    assert searched(narrow) == {"learning_rate"}
    assert [entry.kind for entry in parse_entries(["adam@cosine", f"x=adam@{path}"])] == [
        "baseline"
    ] * 2


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "schedule_free"])
def test_what_a_file_does_not_name_stays_as_published(name):
    path = write("[search]\nlearning_rate = { low = 1e-4, high = 1e-2 }\n")
    rival, published = named_rival(f"{name}@{path}"), RIVALS[name]
    assert rival.space.default == published.space.default
    assert searched(rival) == {"learning_rate"}
    assert rival.source == f"{path}, over: {published.source}"
    if not published.extra_args:
        assert updates(rival) == updates(published)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("[search]\nb1 = { values = [0.8] }\n", "b1", 0.9),
        ("[search]\none_minus_b1 = { values = [0.2] }\n", "one_minus_b1", 0.1),
        ("[default]\nb1 = 0.5\n", "b1", 0.5),
        ("[default]\nb1 = 0.5\n[search]\none_minus_b2 = { values = [0.2] }\n", "b1", 0.5),
        ("[default]\nweight_decay = 0.3\n", "weight_decay", 0.3),
        ('[search]\nschedule = { values = ["cosine"] }\n', "learning_rate", 1e-3),
        ("[given]\nb2 = 0.5\n[default]\nwarmup = 0.1\n", "warmup", 0.1),
    ],
)
def test_a_hyperparameter_is_one_by_either_name(text, name, value):
    rival = named_rival(f"adam@{write(text)}")
    assert rival.space.default[name] == pytest.approx(value)
    plain = [each.removeprefix("one_minus_") for each in rival.space.default]
    assert len(plain) == len(set(plain))
    assert np.isfinite(updates(rival)).all()


def test_weights_of_a_user_are_part_of_who_it_is(tmp_path):
    np.savez("w.npz", scale=3.0)
    write('[given]\nweights = "w.npz"\n[default]\nlearning_rate = 1.0\n')
    first = named_rival("mine:weighted@space.toml")
    assert updates(first, num_steps=10) == pytest.approx([-0.3, -0.3])
    (entry,) = parse_entries(["mine:weighted@space.toml"])
    assert (entry.label, entry.kind) == ("weighted@space.toml", "outside")
    np.savez("w.npz", scale=4.0)
    second = named_rival("mine:weighted@space.toml")
    assert first.fingerprint != second.fingerprint
    (again,) = parse_entries(["mine:weighted@space.toml"])
    assert again.fingerprint != entry.fingerprint


def test_what_is_no_rival_is_left_to_others(tmp_path):
    assert named_rival("general") is None
    assert named_rival("runs/me@host") is None
    assert named_rival("hf://me/mine") is None
    (tmp_path / "mine:rated").mkdir()
    assert named_rival("mine:rated") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine:ratd", "unknown optimizer.*did you mean rated"),
        ("absent:rated", "unknown optimizer.*No module named 'absent'"),
        ("mine:constant", "mine:constant is no factory of an optimizer: got int"),
        ("mine:number", "must return an optax.GradientTransformation, got int"),
        ("os:abort", "of Python's own module"),
        ("builtins:dict", "no factory of an optimizer"),
        ("optax:EmptyState", "a class of another kind"),
        ("mine:breaks", "RuntimeError: no luck today"),
        ("mine:decides", "no default learning_rate"),
        ("mine:fails_later", "RuntimeError: not today"),
        ("mine:other_tree", "no factory of an optimizer"),
        ("adam@cosin", "neither a file nor a schedule; did you mean cosine"),
        ("mine:rated@nowhere.toml", "neither a file nor a schedule"),
        ("adam@", "names no schedule and no file"),
        ("schedule_free@linear", "has no schedule to choose"),
    ],
)
def test_bad_factories(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        named_rival(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "text", "message"),
    [
        ("mine:rated", "[default\n", "is no TOML"),
        ("mine:rated", "[defaults]\n", "it has the tables given, default, search"),
        ("mine:rated", "", "nothing in"),
        (
            "mine:rated",
            "[default]\nlearning_rat = 0.1\n",
            "takes no 'learning_rat'; did you mean learning_rate",
        ),
        ("mine:rated", '[default]\nb1 = "x"\n', "default of b1 must be a finite number"),
        ("mine:rated", "[default]\nb1 = nan\n", "default of b1 must be a finite number"),
        ("mine:rated", f"[default]\nb1 = {'1' * 400}\n", "default of b1 must be a finite number"),
        ("mine:rated", f"[default]\nb1 = {'[' * 9000}\n", "is no TOML"),
        ("mine:rated", "[search]\nb1 = { low = 0.0, high = 1.0 }\n", "0 < low <= high"),
        ("mine:rated", "[search]\nb1 = { low = 0.9, high = 0.1 }\n", "0 < low <= high"),
        ("mine:rated", "[search]\nb1 = 0.5\n", "is { low"),
        ("mine:rated", "[search]\nb1 = { values = [] }\n", "must be a list"),
        ("mine:rated", '[search]\nb1 = { values = ["a"] }\n', "must be finite numbers"),
        (
            "mine:rated",
            '[search]\nb1 = { low = 0.1, high = 0.9, scale = "lin" }\n',
            "unknown scale 'lin' of b1; did you mean linear",
        ),
        ("mine:rated", '[search]\nschedule = { values = ["cosin"] }\n', "did you mean cosine"),
        ("mine:rated", "[search]\nwarmup = { values = [1.5] }\n", "a share of the steps"),
        ("mine:rated", "[default]\nwarmup = -0.5\n", "a share of the steps"),
        ("mine:rated", "[given]\nb1 = 0.5\n[default]\nb1 = 0.4\n", "in .given. and elsewhere"),
        ("mine:anything", "[search]\nb1 = { values = [0.5] }\n", "has no default"),
        ("mine:decides", "[search]\nlearning_rate = { low = 1e-4, high = 0.1 }\n", "no default"),
        (
            "mine:anything",
            '[search]\nschedule = { values = ["cosine"] }\n',
            "needs a learning_rate",
        ),
        (
            "mine:decides",
            "[default]\nlearning_rate = 0.1\nb1 = 0.9\n",
            "decides by the value of a hyperparameter",
        ),
        ("adam", "[default]\nmomentum = 0.9\n", "takes no 'momentum'"),
        ("adam", "[given]\nnesterov = true\n", "nothing in"),
    ],
)
def test_bad_files(spec, text, message):
    with pytest.raises(ValueError, match=message) as error:
        named_rival(f"{spec}@{write(text)}")
    if "TOML" not in message:
        assert "\n" not in str(error.value)
