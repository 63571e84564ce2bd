"""The outer step: one jitted, donated program from theta and the particles
to the next theta and particles.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from outer_train.checks import check_theta
from outer_train.devices import PARTICLES, compiler_options
from outer_train.estimators.base import Estimate, GradientEstimator
from outer_train.guard import guarded_update
from outer_train.trees import global_norm, mean_of_known, share_of
from outer_train.truncation import TruncationSchedule
from tasks import TaskFamily


class OuterState(NamedTuple):
    """All that an outer-training run carries, but for its key.

    Attributes:
      theta: outer parameters.
      opt_state: of the outer optimizer.
      estimator_states: one a family; leaves lead with the particles, which are spread over the
        mesh.
      step: int32 scalar, outer steps done.
    """

    theta: Any
    opt_state: Any
    estimator_states: tuple
    step: Array


class OuterStep(NamedTuple):
    """A pair of functions over a mesh.

    Attributes:
      init: `(theta, key) -> OuterState`, placed on the mesh.
      step: `(state, key, datas) -> (state, metrics)`, jitted; the state is donated. The run's key
        stays the same for every step: the step's own is `fold_in(key, state.step)`, so a resumed
        run goes on as if it had not stopped. `datas` holds each family's data. Metrics are scalars.
        A step whose result would not be finite, or for which no sample is, is counted in
        `num_steps_not_taken`: theta and the outer optimizer's state stay as they are, the particles
        go on.
      shardings: of an OuterState's leaves, for restoring one.
      place_data: replicates the families' data over the mesh.
    """

    init: Callable[[Any, Array], OuterState]
    step: Callable[[OuterState, Array, tuple], tuple[OuterState, dict[str, Array]]]
    shardings: Callable[[OuterState], OuterState]
    place_data: Callable[[tuple], tuple]


def outer_step(
    estimators: Sequence[GradientEstimator],
    outer_optimizer: optax.GradientTransformation,
    truncation: TruncationSchedule,
    mesh: Mesh,
    *,
    families: Sequence[TaskFamily] = (),
    map_update: Callable[[Callable], Callable] = lambda update: update,
) -> OuterStep:
    """Builds the outer step; several estimators, one a task family, have their gradients averaged.

    A family of which a step has no finite sample is left out of the average.

    Args:
      estimators: built with `axis_name=outer_train.devices.PARTICLES`.
      outer_optimizer: an Optax chain: clip, then Adam or the like.
      truncation: gives the length of each outer step's truncation, the same for all families.
      mesh: one-dimensional, from `particle_mesh`.
      families: of the estimators' tasks, where known: how the step is compiled depends on the size
        of their networks (`compiler_options`).
      map_update: maps what is done with theta and gradient over the axes by which they lead, if
        they do: `jax.vmap`.

    Raises:
      ValueError: without estimators; from `init`, for a theta that is empty, not of floating point
        or not finite.
    """
    if not estimators:
        raise ValueError("estimators must hold at least one, got none")
    replicated, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(PARTICLES))

    update = map_update(partial(_update, guarded_update(outer_optimizer)))

    def init(theta, key):
        check_theta(theta)
        keys = jax.random.split(key, len(estimators))
        over_mesh = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P()), out_specs=P(PARTICLES))
        states = tuple(
            jax.jit(over_mesh(e.init))(theta, k) for e, k in zip(estimators, keys, strict=True)
        )
        # A copy: the first step donates it.
        theta = jax.device_put(jax.tree.map(jnp.array, theta), replicated)
        with jax.numpy_dtype_promotion("standard"):
            opt_state = jax.device_put(map_update(outer_optimizer.init)(theta), replicated)
        return OuterState(theta, opt_state, states, jax.device_put(jnp.int32(0), replicated))

    def estimate(theta, states, keys, num_steps, datas):
        rows = zip(estimators, states, keys, datas, strict=True)
        results = [e.estimate(theta, state, key, num_steps, data) for e, state, key, data in rows]
        estimates, states = zip(*results, strict=True)
        return estimates, states

    in_specs = (P(), P(PARTICLES), P(), P(), P())
    estimate = jax.shard_map(estimate, mesh=mesh, in_specs=in_specs, out_specs=(P(), P(PARTICLES)))

    @partial(jax.jit, donate_argnums=0, compiler_options=compiler_options(*families))
    def step(state, key, datas):
        key_step = jax.random.fold_in(key, state.step)
        key_length, *keys = jax.random.split(key_step, 1 + len(estimators))
        num_steps = truncation.length(key_length, state.step)
        estimates, estimator_states = estimate(
            state.theta, state.estimator_states, keys, num_steps, datas
        )
        grads = [e.grad for e in estimates]
        unknown = [e.info.num_unknown for e in estimates]
        theta, opt_state, grad_norm, taken = update(state.theta, state.opt_state, grads, unknown)
        new_state = OuterState(theta, opt_state, tuple(estimator_states), state.step + 1)
        return new_state, _metrics(estimates, num_steps, grad_norm, taken)

    def shardings(state):
        spread_like = jax.tree.map(lambda _: spread, state.estimator_states)
        whole = jax.tree.map(lambda _: replicated, state)
        return whole._replace(estimator_states=spread_like)

    return OuterStep(init, step, shardings, lambda datas: jax.device_put(datas, replicated))


def traced_ahead(run: OuterStep, theta: Any, key: Array, datas: tuple) -> jax.stages.Traced:
    """The outer step as JAX traces it, before any state is allocated; arguments as in
    `compiled_ahead`, which does not trace it again.
    """
    state = jax.eval_shape(run.init, theta, key)
    state = jax.tree.map(_placed_shape, state, run.shardings(state))
    return run.step.trace(state, _placed_shape(key, state.step.sharding), datas)


def compiled_ahead(run: OuterStep, theta: Any, key: Array, datas: tuple) -> OuterStep:
    """The same outer step with its program compiled, before any state is allocated.

    Its `step` is a `jax.stages.Compiled`, which tells what memory it takes. It takes nothing but
    states of `run.init`, the key placed as they are, and data of the shapes given here.

    Args:
      run: from `outer_step`.
      theta: outer parameters, or their shapes.
      key: of the run.
      datas: one entry a family, placed.
    """
    return run._replace(step=traced_ahead(run, theta, key, datas).lower().compile())


def _placed_shape(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _update(guarded, theta, opt_state, grads, num_unknown):
    """The step of theta by the families' gradients:
    `(theta, opt_state, gradient's norm, whether it was taken)`.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(theta))
    known = [jnp.bool_(True) if unknown is None else unknown < size for unknown in num_unknown]
    any_known = jnp.any(jnp.stack(known))
    grad = mean_of_known(grads, known)
    theta, opt_state, taken = guarded(theta, opt_state, grad, any_known)
    return theta, opt_state, jnp.where(any_known, global_norm(grad), jnp.nan), taken


def _metrics(
    estimates: Sequence[Estimate], num_steps: Array, grad_norm: Array, taken: Array
) -> dict[str, Array]:
    """Scalars of a step: means over families, sums for counts;
    per-family losses where there are several.

    What is unknown of one family is unknown of the mean: without a family of high losses it would
    look better.
    """
    share = share_of(len(estimates))
    mean = lambda values: sum(value * share for value in values) / (len(values) * share)
    infos = [estimate.info for estimate in estimates]
    missed = (~taken).astype(jnp.int32)
    metrics = {
        "outer_loss": mean([estimate.loss for estimate in estimates]),
        "truncation_length": num_steps,
        "grad_norm": grad_norm,
        # Of a step that was not taken it is never zero,
        # even where each sample is finite and only their result is not.
        "num_non_finite": jnp.maximum(sum(info.num_non_finite for info in infos), missed),
        "num_steps_not_taken": missed,
        "num_resets": sum(info.num_resets for info in infos),
        "num_live_inner_steps": sum(info.num_live_steps for info in infos),
    }
    if len(estimates) > 1:
        metrics |= {f"outer_loss_{i}": estimate.loss for i, estimate in enumerate(estimates)}
    for kind in ("variance", "weight", "diagnosis"):
        for name in getattr(infos[0], kind):
            label = name if kind == "diagnosis" else f"{kind}_{name}"
            metrics[label] = mean([getattr(info, kind)[name] for info in infos])
    return metrics
