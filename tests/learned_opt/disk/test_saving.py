"""What `save` writes `load` reads back, and what it could not read is not written;
a kill between the two files.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.base import LearnedOptimizer
from learned_opt.disk import files
from tests.support.learned_opt.saved_theta import KWARGS, change_header, refused, saved, write_npz

__all__ = ["saved"]


def with_leaf(theta, value):
    return {**theta, "layer_1": {**theta["layer_1"], "bias": value}}


@pytest.mark.parametrize("value", [jnp.array([jnp.nan, 0.0]), jnp.array([0.0, jnp.inf])])
def test_a_theta_that_is_not_finite_is_neither_saved_nor_loaded(saved, value):
    path, theta = saved
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not finite; layer_1/bias"):
        learned_opt.save(path, "mlp", KWARGS, with_leaf(theta, value))
    assert path.read_bytes() == before
    write_npz(path, dict(np.load(path)) | {"layer_1/bias": np.asarray(value)})
    change_header(path, sha256=None)
    refused(path, "not finite; layer_1/bias")


def test_a_number_too_large_for_float32_is_refused(saved):
    path, _ = saved
    write_npz(path, dict(np.load(path)) | {"layer_1/bias": np.array([1e300, 0.0])})
    change_header(path, sha256=None, dtypes=None)
    refused(path, "not finite; layer_1/bias")


def two(**kwargs):
    """An optimizer whose theta has two leaves of one name."""
    return LearnedOptimizer(
        lambda key: {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}, lambda theta: None
    )


def plain(**kwargs):
    return LearnedOptimizer(lambda key: jnp.ones(2), lambda theta: None)


def test_save_refuses_what_would_not_come_back(tmp_path, saved):
    _, theta = saved
    own = f"{__name__}:plain"
    cases = {
        "floating types": ("mlp", KWARGS, with_leaf(theta, np.zeros(2, np.int32)), None),
        "of type bfloat16": ("mlp", KWARGS, with_leaf(theta, jnp.zeros(2, jnp.bfloat16)), None),
        "is no array": ("mlp", KWARGS, with_leaf(theta, jax.random.key(0)), None),
        "Out of range float": (own, {"x": float("nan")}, jnp.ones(2), plain),
        "would come back as": (own, {"x": {1: 2}}, jnp.ones(2), plain),
        "not JSON serializable": (own, {"x": jnp.ones(2)}, jnp.ones(2), plain),
        "have the same name": (
            f"{__name__}:two",
            {},
            {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}},
            two,
        ),
        "64 bits": (own, {"x": 2**64}, jnp.ones(2), plain),
        "more than 1048576 bytes": (own, {"x": "x" * (1 << 20)}, jnp.ones(2), plain),
    }
    for message, (name, kwargs, value, factory) in cases.items():
        with pytest.raises(ValueError, match=message):
            learned_opt.save(tmp_path / "new" / "t", name, kwargs, value, factory=factory)
    assert not (tmp_path / "new").exists()
    path = learned_opt.save(
        tmp_path / "t", own, {"x": ((1, 2.5), None, "ü")}, jnp.ones(2), factory=plain
    )
    np.testing.assert_array_equal(learned_opt.load_theta(path, factory=plain)[1], np.ones(2))


def test_a_save_that_was_killed_between_its_two_moves_is_read_whole(saved, tmp_path, monkeypatch):
    path, theta = saved
    other = learned_opt.mlp(**KWARGS).init(jax.random.key(4))
    newer = learned_opt.save(tmp_path / "newer" / "theta.npz", "mlp", KWARGS, other)
    waiting = files.pending_path(path.with_suffix(".json"))
    waiting.write_bytes(newer.with_suffix(".json").read_bytes())
    # Before the first move.
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], theta)
    path.write_bytes(newer.read_bytes())
    # Between the two.
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)
    path.with_suffix(".json").unlink()
    # The very first save.
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)
    waiting.unlink()
    change_header(newer)
    path.with_suffix(".json").write_bytes(newer.with_suffix(".json").read_bytes())
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)


def test_weights_of_another_save_are_not_taken_for_these(saved, tmp_path):
    path, _ = saved
    other = learned_opt.mlp(**KWARGS).init(jax.random.key(4))
    newer = learned_opt.save(tmp_path / "newer" / "theta.npz", "mlp", KWARGS, other)
    path.write_bytes(newer.read_bytes())
    refused(path, "do not belong together")
    change_header(path, sha256=None)  # as files of before checksums
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)
