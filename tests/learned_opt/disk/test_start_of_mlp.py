"""The start of `mlp` on disk: a dict, or four arguments of their own as in the files that ship."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import AdamStart, saving
from learned_opt.disk import theta_file
from tests.support.learned_opt.saved_theta import change_header, refused

KWARGS = {
    "hidden_sizes": (4,),
    "timescales": (3.0, 10.0),
    "features": ("parameter", "adam_momentum", "log_parameter"),
}
START = AdamStart(0.02, exponents=(0.5,), time_exponents=(0.1, -0.2), weight_decay=0.03)
FOUR = {
    "adam_learning_rate": 0.02,
    "adam_exponents": [0.5],
    "adam_time_exponents": [0.1, -0.2],
    "adam_weight_decay": 0.03,
}


@pytest.fixture
def started(tmp_path):
    """A saved theta whose optimizer has a start."""
    theta = learned_opt.mlp(**KWARGS, start=START).init(jax.random.key(3))
    return learned_opt.save(tmp_path / "theta.npz", "mlp", KWARGS | {"start": START}, theta), theta


def arguments_of(path):
    return json.loads(path.with_suffix(".json").read_text())["kwargs"]


def same_optimizer(got, want, theta):
    """They give the same fresh theta and the same update, bit by bit."""
    thetas = [optimizer.init(jax.random.key(5)) for optimizer in (got, want)]
    jax.tree.map(np.testing.assert_array_equal, *thetas)
    params, grads = jnp.linspace(-1.0, 2.0, 5), jnp.linspace(3.0, -1.0, 5)
    opts = [optimizer.optimizer(theta) for optimizer in (got, want)]
    updates = [opt.update(grads, opt.init(params), params)[0] for opt in opts]
    assert np.abs(updates[0]).max() > 1e-4
    np.testing.assert_array_equal(*updates)


def test_a_start_is_saved_as_a_dict_and_comes_back(started, tmp_path):
    path, theta = started
    plain = {
        "learning_rate": 0.02,
        "exponents": [0.5],
        "time_exponents": [0.1, -0.2],
        "weight_decay": 0.03,
    }
    assert arguments_of(path)["start"] == plain
    optimizer, loaded = learned_opt.load_theta(path)
    jax.tree.map(np.testing.assert_array_equal, loaded, theta)
    same_optimizer(optimizer, learned_opt.mlp(**KWARGS, start=START), theta)
    again = learned_opt.save(tmp_path / "again", "mlp", arguments_of(path), theta)
    assert again.with_suffix(".json").read_text() == path.with_suffix(".json").read_text()


def test_four_arguments_are_one_start(started):
    path, theta = started
    kwargs = {name: value for name, value in arguments_of(path).items() if name != "start"} | FOUR
    change_header(path, kwargs=kwargs)
    same_optimizer(learned_opt.load_theta(path)[0], learned_opt.mlp(**KWARGS, start=START), theta)
    # A part that says nothing is none.
    nothing = {"adam_learning_rate": None, "adam_exponents": [], "adam_weight_decay": 0.0}
    change_header(
        path, kwargs={name: value for name, value in kwargs.items() if name not in FOUR} | nothing
    )
    same_optimizer(learned_opt.load_theta(path)[0], learned_opt.mlp(**KWARGS), theta)


@pytest.mark.parametrize("name", ["general", "general_es"])
def test_shipped_files_have_the_start_of_their_config(name):
    path = saving.PRETRAINED_DIR / f"{name}.npz"
    kwargs = arguments_of(path)
    assert kwargs.keys() > FOUR.keys()
    start = AdamStart(**{field: kwargs.pop(old) for old, field in theta_file.START.items()})
    assert (
        start.learning_rate,
        start.weight_decay,
        len(start.exponents),
        len(start.time_exponents),
    ) == (
        0.02,
        0.018,
        6,
        6,
    )
    optimizer, theta = learned_opt.load_theta(name)
    same_optimizer(optimizer, learned_opt.mlp(**kwargs, start=start), theta)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": {"learning_rate": -1.0}}, "start.learning_rate: got -1.0, allowed are positive"),
        ({"start": {"learning_rate": "0.02"}}, "start.learning_rate: got '0.02'"),
        ({"start": {"exponents": [0.5]}}, "start.learning_rate: got None"),
        (
            {"start": {"learning_rate": 0.1, "exponents": [0.5, 0.5]}},
            "allowed are 1 finite numbers",
        ),
        ({"start": {"learning_rate": 0.1, "rate": 0.1}}, "start: got a field 'rate'"),
        ({"start": 0.02}, "start: got 0.02, allowed are None"),
        ({"start": [0.02]}, r"start: got \[0.02\], allowed are None"),
        ({"start": {"learning_rate": 0.1}} | FOUR, "got both 'start' and 'adam_learning_rate'"),
        ({"start": None} | FOUR | {"adam_learning_rate": None}, "start.learning_rate: got None"),
        ({"start": None} | FOUR | {"adam_exponents": "x"}, "start.exponents: got 'x'"),
        ({"start": None, "adam_rate": 0.1}, "does not take these arguments"),
    ],
)
def test_a_bad_start_is_refused_with_the_files_name(started, changes, message):
    path, _ = started
    change_header(path, kwargs=arguments_of(path) | changes)
    refused(path, message)


def test_other_optimizers_keep_their_arguments(tmp_path):
    """Only `mlp` of this library has a start.

    One of a user's own may call its arguments as it likes.
    """

    def own(**kwargs):
        assert kwargs == {"adam_learning_rate": 0.5}
        return learned_opt.mlp((2,))

    theta = learned_opt.mlp((2,)).init(jax.random.key(0))
    path = learned_opt.save(
        tmp_path / "t", "mine:own", {"adam_learning_rate": 0.5}, theta, factory=own
    )
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path, factory=own)[1], theta)
    with pytest.raises(ValueError, match="cannot be saved as JSON"):
        learned_opt.save(tmp_path / "t", "mine:own", {"start": START}, theta, factory=own)
