"""A state spread over devices, and its bits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from outer_train.devices import PARTICLES, particle_mesh
from outer_train.run.checkpoint import Checkpoints


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
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return [
        np.asarray(jax.random.key_data(x) if is_key(x) else x).tobytes()
        for x in jax.tree.leaves(state)
    ]


def no_warning(line):
    raise AssertionError(line)


def newest(directory, warn=no_warning, like=None):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.restore_newest(like or make_state(0), warn)
