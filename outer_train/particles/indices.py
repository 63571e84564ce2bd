"""Which particles a device holds, and their keys:
made from global indices, whatever the number of devices.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.particles.collectives import axis_size, is_bound


def global_indices(num_particles: int, axis_name: str | None) -> Array:
    """Global indices, int32 `[num_particles // axis size]`, of this device's particles.

    Raises:
      ValueError: if the particles do not divide over the devices.
    """
    size = axis_size(axis_name)
    if num_particles % size:
        raise ValueError(f"{num_particles} particles do not divide over {size} devices")
    local = num_particles // size
    first = lax.axis_index(axis_name) * local if is_bound(axis_name) else 0
    return first + jnp.arange(local, dtype=jnp.int32)


def particle_keys(key: Array, indices: Array) -> Array:
    """One key a particle, `[particles]`, from the particles' global indices."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
