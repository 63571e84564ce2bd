"""Where particles stand in their episodes: at the start of a new one, or at staggered steps."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.particles.collectives import vary
from outer_train.particles.indices import particle_keys
from outer_train.problem import UnrolledSystem
from outer_train.trees import Tree


def start_episodes(
    problem: UnrolledSystem, theta: Tree, key: Array, indices: Array, axis_name: str | None = None
) -> Tree:
    """Fresh inner states, leaves `[particles, ...]`, a new task each,
    with the dtypes that steps keep.
    """
    states = jax.vmap(problem.init, in_axes=(None, 0))(theta, particle_keys(key, indices))
    # Drops weak types.
    states = jax.tree.map(lambda x: lax.convert_element_type(x, x.dtype), states)
    return vary(states, axis_name)


def staggered_steps(num_steps: int, num_particles: int, key: Array, indices: Array) -> Array:
    """Step counters, int32 `[particles]`, spread over the episode:
    one uniform draw within each particle's share.
    """
    jitter = jax.vmap(lambda key: jax.random.uniform(key, dtype=jnp.float32))(
        particle_keys(key, indices)
    )
    share = (indices.astype(jnp.float32) + jitter) / num_particles
    return jnp.minimum((share * num_steps).astype(jnp.int32), num_steps - 1)
