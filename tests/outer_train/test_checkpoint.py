"""Checkpoints: exact, sharded, with damage noticed."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from outer_train.checkpoint import Checkpoints
from outer_train.devices import PARTICLES, particle_mesh


class State(NamedTuple):
    theta: Any
    opt_state: Any
    particles: Any
    keys: Any
    step: Any


def make_state(seed: int, num_devices: int = 8) -> State:
    mesh = particle_mesh(8, num_devices)
    whole, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(PARTICLES))
    key_theta, key_particles = jax.random.split(jax.random.key(seed))
    theta = jax.device_put({"w": jax.random.normal(key_theta, (3, 2))}, whole)
    return State(
        theta=theta,
        opt_state=jax.device_put(optax.adam(1e-3).init(theta), whole),
        particles=jax.device_put(jax.random.normal(key_particles, (8, 5)), spread),
        keys=jax.device_put(jax.random.split(key_particles, 8), spread),
        step=jax.device_put(jnp.int32(seed), whole),
    )


def bits(state: State) -> list[bytes]:
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x).tobytes() for x in jax.tree.leaves(state)]


def no_warning(line):
    raise AssertionError(line)


@pytest.fixture(scope="module")
def three_checkpoints(tmp_path_factory) -> Path:
    """Steps 1, 2 and 3, written while the state is donated and changed."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    change = jax.jit(lambda state: state._replace(particles=state.particles * 2), donate_argnums=0)
    with Checkpoints(directory, keep=3) as checkpoints:
        for step in (1, 2, 3):
            state = make_state(step)
            checkpoints.save(step, state, 1.0)
            change(state)
    return directory


@pytest.mark.parametrize("num_devices", [8, 2])
def test_restores_every_bit_onto_any_mesh(three_checkpoints, num_devices):
    with Checkpoints(three_checkpoints) as checkpoints:
        step, state = checkpoints.restore_newest(make_state(0, num_devices), no_warning)
    assert step == 3
    assert bits(state) == bits(make_state(3))
    assert state.particles.sharding == make_state(0, num_devices).particles.sharding
    assert len(state.keys.sharding.device_set) == num_devices


def delete_data(step: Path):
    shutil.rmtree(step / "default" / "d")


def cut_largest_file(step: Path):
    largest = max((path for path in step.rglob("d/*")), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def flip_bits(step: Path):
    for path in step.rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))


def empty_files(step: Path):
    for path in step.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


@pytest.mark.parametrize("damage", [delete_data, cut_largest_file, flip_bits, empty_files])
def test_damage_falls_back_to_the_one_before(three_checkpoints, tmp_path, damage):
    directory = tmp_path / "checkpoints"
    shutil.copytree(three_checkpoints, directory)
    damage(directory / "3")
    warnings = []
    with Checkpoints(directory) as checkpoints:
        step, state = checkpoints.restore_newest(make_state(0), warnings.append)
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(3, make_state(4), 1.0)
    assert step == 2
    assert bits(state) == bits(make_state(2))
    assert len(warnings) == 1
    assert warnings[0].startswith("checkpoint 3 is damaged")
    with Checkpoints(directory) as checkpoints:
        assert bits(checkpoints.restore_newest(make_state(0), no_warning)[1]) == bits(make_state(4))


def test_all_damaged_is_an_error(three_checkpoints, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(three_checkpoints, directory)
    for step in ("1", "2", "3"):
        cut_largest_file(directory / step)
    warnings = []
    with (
        Checkpoints(directory) as checkpoints,
        pytest.raises(ValueError, match=r"none of the checkpoints \[3, 2, 1\] can be read"),
    ):
        checkpoints.restore_newest(make_state(0), warnings.append)
    assert len(warnings) == 3


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
