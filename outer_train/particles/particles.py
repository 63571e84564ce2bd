"""Particles: copies of an inner problem that live on across truncations, spread over the devices of a mesh.

Everything here is per device: arrays lead with the particles this device holds. A particle's keys are made from its
global index, so they do not depend on how many devices there are.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from learned_opt.trees import at_least_float32
from outer_train.checks import check_count
from outer_train.problem import SUM_REDUCTIONS, InnerProblem

Tree = Any
HALF = 12


def axis_size(axis_name: str | None) -> int:
    """Devices on the axis; 1 without an axis, or outside `shard_map`, where all particles are at hand."""
    if axis_name is None:
        return 1
    try:
        return lax.axis_size(axis_name)
    except NameError:
        return 1


def global_indices(num_particles: int, axis_name: str | None) -> Array:
    """Global indices, int32 `[num_particles // axis size]`, of this device's particles.

    Raises:
      ValueError: if the particles do not divide over the devices.
    """
    size = axis_size(axis_name)
    if num_particles % size:
        raise ValueError(f"{num_particles} particles do not divide over {size} devices")
    local = num_particles // size
    first = lax.axis_index(axis_name) * local if _is_bound(axis_name) else 0
    return first + jnp.arange(local, dtype=jnp.int32)


def particle_keys(key: Array, indices: Array) -> Array:
    """One key a particle, `[particles]`, from the particles' global indices."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)


def vary(tree: Tree, axis_name: str | None) -> Tree:
    """Makes the replicated leaves of a tree count as different on each device.

    Without it `shard_map` would sum the gradient with respect to theta over devices by itself, and the estimator's own
    mean would count it twice.
    """
    if not _is_bound(axis_name):
        return tree
    cast = lambda x: x if axis_name in _varying_axes(x) else lax.pcast(x, axis_name, to="varying")  # noqa: E731
    return jax.tree.map(cast, tree)


def _varying_axes(x):
    kind = jax.typeof(x)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma  # the name before JAX 0.10


def total(tree: Tree, axis_name: str | None) -> Tree:
    """Sum over devices of arrays that are already summed over this device's particles."""
    return lax.psum(tree, axis_name) if _is_bound(axis_name) else tree


def packed_total(tree: Tree, axis_name: str | None) -> Tree:
    """`total` of a whole tree in one message: between hosts a message costs more than what it holds, if that is small.

    All travel as the widest floating dtype; integers from 0 on as two numbers of `HALF` bits each, the sums of which
    floats hold exactly for up to 4,096 devices.
    """
    leaves, structure = jax.tree.flatten(tree)
    if not leaves or not _is_bound(axis_name):
        return tree
    floats = [x.dtype for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    widest = max(floats, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))
    parts = [_as_floats(x).astype(widest) for x in leaves]
    message = lax.psum(jnp.concatenate(parts), axis_name)
    ends = list(itertools.accumulate(part.size for part in parts))
    sums = [message[end - part.size : end] for part, end in zip(parts, ends, strict=True)]
    return structure.unflatten([_from_floats(s, x) for s, x in zip(sums, leaves, strict=True)])


def _as_floats(x):
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return x.ravel()
    return jnp.concatenate([x.ravel() >> HALF, x.ravel() & (1 << HALF) - 1])


def _from_floats(sums, x):
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        high, low = sums.astype(x.dtype).reshape(2, -1)
        sums = (high << HALF) + low
    return sums.astype(x.dtype).reshape(x.shape)


def _is_bound(axis_name):
    if axis_name is None:
        return False
    try:
        lax.axis_size(axis_name)
    except NameError:
        return False
    return True


def start_episodes(
    problem: InnerProblem, theta: Tree, key: Array, indices: Array, axis_name: str | None = None
) -> Tree:
    """Fresh inner states, leaves `[particles, ...]`, a new task each, with the dtypes that steps keep."""
    states = jax.vmap(problem.init, in_axes=(None, 0))(theta, particle_keys(key, indices))
    states = jax.tree.map(lambda x: lax.convert_element_type(x, x.dtype), states)  # drops weak types
    return vary(states, axis_name)


def staggered_steps(num_steps: int, num_particles: int, key: Array, indices: Array) -> Array:
    """Step counters, int32 `[particles]`, spread over the episode: one uniform draw within each particle's share."""
    jitter = jax.vmap(lambda key: jax.random.uniform(key, dtype=jnp.float32))(particle_keys(key, indices))
    share = (indices.astype(jnp.float32) + jitter) / num_particles
    return jnp.minimum((share * num_steps).astype(jnp.int32), num_steps - 1)


def all_finite(tree: Tree, like: Array) -> Array:
    """Whether each particle's floating-point leaves, if any, are all finite, bool and `[particles]` as `like` is."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    checks = [jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))) for x in leaves]
    return jnp.all(jnp.stack(checks), axis=0) if checks else jnp.ones_like(like, bool)


def select(mask: Array, x: Tree, y: Tree) -> Tree:
    """Leaves of x where the mask, bool `[particles]`, holds, of y elsewhere; never arithmetic, so inf cannot leak."""
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b), x, y)


def widen(tree: Tree) -> Tree:
    """Leaves as arrays of at least float32."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(at_least_float32(jnp.asarray(x).dtype)), tree)


def problem_data(problem: InnerProblem, data: Any) -> Any:
    """The data handed to `estimate`, or the problem's own where none was."""
    return problem.data if isinstance(data, tuple) and not data else data


def checked_length(num_steps: int | Array, max_num_steps: int) -> Array:
    """The truncation length as an int32 scalar.

    Raises:
      ValueError: for a known length that is no whole number in `[1, max_num_steps]`; a traced one is cut to it.
    """
    known = not isinstance(num_steps, jax.core.Tracer)
    if known and not (1 <= num_steps <= max_num_steps and int(num_steps) == num_steps):
        raise ValueError(f"num_steps must lie in [1, max_num_steps = {max_num_steps}], got {num_steps}")
    return jnp.clip(jnp.asarray(num_steps, jnp.int32), 1, max_num_steps)


def check_system(problem: InnerProblem, estimator: str, *, needs_sum: bool = True) -> InnerProblem:
    """Refuses a problem that an estimator cannot take, before anything is traced.

    Args:
      problem: the unrolled system.
      estimator: for messages.
      needs_sum: whether its outer loss has to be a sum of step losses.

    Returns:
      The problem, with a step that refuses to change what its state looks like, and losses of at least float32: whole
      numbers have derivatives then, zero almost everywhere.

    Raises:
      ValueError: saying what is wrong, and what can take the problem.
    """
    check_count(**{"num_steps of the problem": problem.num_steps})
    if needs_sum and problem.reduction not in SUM_REDUCTIONS:
        raise ValueError(
            f"{estimator} adds up step losses over truncations, and {problem.reduction!r} is no sum of step losses; "
            f"use one of {', '.join(SUM_REDUCTIONS)}, or full_es, which sees whole episodes"
        )

    def step(theta, state, key, data):
        new_state, loss = problem.step(theta, state, key, data)
        if jnp.shape(loss) or jnp.issubdtype(jnp.result_type(loss), jnp.complexfloating):
            raise ValueError(
                f"a step's loss must be one real number, got {jnp.result_type(loss)} of shape {jnp.shape(loss)}"
            )
        before, after = _kind(state), _kind(new_state)
        if before != after:
            raise ValueError(f"a step must not change its state's shapes and types, {before}, and made them {after}")
        return new_state, widen(loss)

    return problem._replace(step=step)


def _kind(tree):
    return ", ".join(f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in jax.tree.leaves(tree))
