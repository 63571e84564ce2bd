"""Checkpoints: exact, sharded, the newest and the best kept.

Damage is in test_damaged_checkpoints.py.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outer_train.run.checkpoint import Checkpoints
from tests.support.outer_train.states import bits, make_state, newest, no_warning


@pytest.mark.parametrize("num_devices", [8, 2])
def test_restores_every_bit_onto_any_mesh(three_checkpoints, num_devices):
    with Checkpoints(three_checkpoints) as checkpoints:
        step, state = checkpoints.restore_newest(make_state(0, num_devices), no_warning)
    assert step == 3
    assert bits(state) == bits(make_state(3))
    assert state.particles.sharding == make_state(0, num_devices).particles.sharding
    assert len(state.keys.sharding.device_set) == num_devices


def test_keeps_the_newest_and_the_best(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: float("nan"), 5: 5.0, 6: None}
    state = {"x": jnp.zeros(2)}
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, state, loss)
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]


def test_an_empty_directory_has_none(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == []
        assert checkpoints.restore_newest(make_state(0), no_warning) is None


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one checkpoint must be kept, got 0"):
        Checkpoints(tmp_path / "checkpoints", keep=0)


def test_leaves_without_elements_are_saved_and_restored(tmp_path):
    state = {
        "w": jnp.arange(3.0),
        "none": jnp.zeros((0, 4)),
        "averages": (jnp.zeros((2, 0), jnp.int32),),
    }
    for name, each in (("some", state), ("all", {"x": jnp.zeros(0)})):
        with Checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(1, each, None)
        like = jax.tree.map(lambda x: x + 1, each)
        step, restored = newest(tmp_path / name, like=like)
        assert step == 1
        jax.tree.map(np.testing.assert_array_equal, restored, each)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), restored) == jax.tree.map(
            lambda x: (x.shape, x.dtype), each
        )


def test_the_record_says_which_is_the_newest(tmp_path):
    record = tmp_path / "newest.json"
    with Checkpoints(tmp_path / "checkpoints", record=record) as checkpoints:
        for step in (1, 5):
            checkpoints.save(step, {"x": jnp.zeros(2)}, None)
    assert json.loads(record.read_text()) == {"outer_step": 5}
