"""What is saved comes back bit by bit, and whatever is wrong with a file is said in one line."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import saving
from learned_opt.base import LearnedOptimizer
from learned_opt.catalog import optimizer_factory

KWARGS = {"hidden_sizes": [4], "timescales": [3.0, 10.0]}


def rule(scale=1.0):
    """A user's own optimizer, named as "module:name"."""
    return LearnedOptimizer(lambda key: jnp.full(2, scale), lambda theta: None)


@pytest.fixture
def saved(tmp_path):
    optimizer = learned_opt.mlp(**KWARGS)
    theta = optimizer.init(jax.random.key(3))
    return learned_opt.save(tmp_path / "theta.npz", "mlp", KWARGS, theta), theta


def test_comes_back_bit_by_bit_by_any_path(saved):
    path, theta = saved
    for name in (path, str(path), path.with_suffix(""), path.parent):
        optimizer, loaded = learned_opt.load_theta(name)
        jax.tree.map(np.testing.assert_array_equal, loaded, theta)
    params = jnp.ones(3)
    opt, again = optimizer.optimizer(theta), learned_opt.load(path)
    want, got = (o.update(params, o.init(params), params)[0] for o in (opt, again))
    np.testing.assert_array_equal(got, want)


def test_header_and_nothing_left_behind(saved):
    path, _ = saved
    header = json.loads(path.with_suffix(".json").read_text())
    assert header["optimizer"] == "mlp"
    assert header["kwargs"] == KWARGS
    assert header["shapes"]["layer_0/weights"] == [9, 4]
    assert header["dtypes"]["layer_0/weights"] == "float32"
    assert header["format_version"] == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["theta.json", "theta.npz"]


def test_a_users_own_optimizer(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_rule.py").write_text(
        "from learned_opt import mlp\n\ndef mine(n):\n    return mlp((n,))\n"
    )
    theta = learned_opt.mlp((5,)).init(jax.random.key(0))
    path = learned_opt.save(tmp_path / "t", "my_rule:mine", {"n": 5}, theta)
    assert path.name == "t.npz"
    with pytest.raises(ValueError, match="'my_rule' would be imported and run") as refused:
        learned_opt.load_theta(path)
    assert "--trust" in str(refused.value)
    optimizer, _ = learned_opt.load_theta(path, trust=True)
    assert optimizer.init(jax.random.key(0))["layer_0"]["weights"].shape == (16, 5)
    assert optimizer_factory("my_rule:mine").__name__ == "mine"
    for name in ("mpl", "my_rule:other", "no_such_module:x", "my_rule:"):
        with pytest.raises(ValueError, match="unknown optimizer"):
            optimizer_factory(name)


def change_header(path, **changes):
    file = path.with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite(path, **changes):
    arrays = dict(np.load(path)) | changes
    np.savez(path, **arrays)


DAMAGE = {
    "cut short": lambda p: p.write_bytes(p.read_bytes()[:500]),
    "is a pickle": lambda p: p.write_bytes(pickle.dumps({"layer_0": 1})),
    "pickled objects": lambda p: rewrite(p, **{"layer_0/bias": np.array([{}] * 4)}),
    "another shape; layer_0/bias is": lambda p: rewrite(
        p, **{"layer_0/bias": np.zeros(5, np.float32)}
    ),
    "floating types": lambda p: rewrite(p, **{"layer_0/bias": np.zeros(4, int)}),
    "another optimizer": lambda p: rewrite(p, extra=np.zeros(3)),
    "no valid JSON": lambda p: p.with_suffix(".json").write_text("{"),
    "json is missing": lambda p: p.with_suffix(".json").unlink(),
    "format version 2": lambda p: change_header(p, format_version=2),
    "unknown optimizer 'mlq'; did you mean mlp": lambda p: change_header(p, optimizer="mlq"),
    "does not take these arguments": lambda p: change_header(p, kwargs={"width": 3}),
    "another shape; layer_0/weights": lambda p: change_header(
        p, kwargs={**KWARGS, "timescales": [1.0]}
    ),
    "shapes differ": lambda p: change_header(p, shapes={}),
    "kwargs missing": lambda p: p.with_suffix(".json").write_text(
        '{"format_version": 1, "optimizer": "", "shapes": {}}'
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_named_in_the_first_line(saved, message):
    path, _ = saved
    DAMAGE[message](path)
    with pytest.raises(ValueError, match=message) as error:
        learned_opt.load_theta(path)
    assert message in str(error.value).splitlines()[0]
    assert str(error.value).count("\n") <= 4


def test_a_flipped_bit_is_noticed(saved):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[content.index(b"\x93NUMPY") + 140] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="damaged"):
        learned_opt.load(path)


def test_save_refuses_what_load_would(tmp_path):
    theta = learned_opt.mlp().init(jax.random.key(0))
    with pytest.raises(ValueError, match="another shape"):
        learned_opt.save(tmp_path / "t", "mlp", KWARGS, theta)
    with pytest.raises(ValueError, match="JSON"):
        learned_opt.save(tmp_path / "t", f"{__name__}:rule", {"scale": jnp.ones(())}, jnp.ones(2))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    path, theta = saved
    before = path.read_bytes()

    def full_disk(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space left"):
        learned_opt.save(path, "mlp", KWARGS, theta)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2


def test_names_of_shipped_optimizers(saved, monkeypatch, tmp_path):
    path, theta = saved
    with pytest.raises(FileNotFoundError, match="nothing_here"):
        learned_opt.load("nothing_here")
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(saving, "PRETRAINED_DIR", shipped)
    with pytest.raises(FileNotFoundError, match="none ships"):
        learned_opt.load()
    learned_opt.save(shipped / f"{saving.DEFAULT_PRETRAINED}.npz", "mlp", KWARGS, theta)
    assert saving.pretrained_names() == [saving.DEFAULT_PRETRAINED]
    params = jnp.ones(3)
    by_name, by_path = (
        o.update(params, o.init(params), params)[0]
        for o in (learned_opt.load(), learned_opt.load(path))
    )
    np.testing.assert_array_equal(by_name, by_path)
    with pytest.raises(FileNotFoundError, match=f"did you mean {saving.DEFAULT_PRETRAINED}"):
        learned_opt.load(saving.DEFAULT_PRETRAINED + "x")
