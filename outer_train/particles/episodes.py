"""Where particles stand in their episodes: at the start of a new one, or at staggered steps."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from outer_train.particles.collectives import vary
from outer_train.particles.indices import particle_keys
from outer_train.problem import UnrolledSystem
from outer_train.trees import Tree, all_finite, none_lost, select

State = TypeVar("State")


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


def restarted(
    state: State,
    start: Callable[[], State],
    at_end: Array,
    carried: Callable[[State], Tree],
    indices: Array,
) -> tuple[State, Array]:
    """Particles at their episode's end, and those that are lost, at the start of new episodes.

    One is lost when a number that it carries is not finite and was at the start of an episode: an
    inner optimizer may hold infinities of its own, such as a best loss so far.

    Args:
      state: of all particles.
      start: what it is at the start of new episodes.
      at_end: bool `[particles]`.
      carried: from such a state what an episode carries on.
      indices: `[particles]`.

    Returns:
      The state, and bool `[particles]`, which are new.
    """
    doubtful = ~all_finite(carried(state), indices)

    def restart(state: State) -> tuple[State, Array]:
        fresh = start()
        done = at_end | (doubtful & ~none_lost(carried(fresh), carried(state), indices))
        return select(done, fresh, state), done

    # Outside the map over particles, so that it is a branch:
    # truncations without a reset do not pay for one.
    keep = lambda state: (state, at_end)
    return lax.cond(jnp.any(at_end | doubtful), restart, keep, state)
