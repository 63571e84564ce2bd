"""The outer step: one jitted, donated program from theta and the particles to the next theta and particles."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from outer_train.compilation import compiler_options
from outer_train.devices import PARTICLES
from outer_train.estimators.base import Estimate, GradientEstimator
from outer_train.moments import tree_mean
from outer_train.truncation import TruncationSchedule


class OuterState(NamedTuple):
    """All that an outer-training run carries, but for its key.

    Attributes:
      theta: outer parameters.
      opt_state: of the outer optimizer.
      estimator_states: one a family; leaves lead with the particles, which are spread over the mesh.
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
      step: `(state, key, datas) -> (state, metrics)`, jitted; the state is donated. The run's key stays the same for
        every step: the step's own is `fold_in(key, state.step)`, so a resumed run goes on as if it had not stopped.
        `datas` holds each family's data. Metrics are scalars.
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
) -> OuterStep:
    """Builds the outer step; several estimators, one a task family, have their gradients averaged.

    Args:
      estimators: built with `axis_name=outer_train.devices.PARTICLES`.
      outer_optimizer: an Optax chain: clip, then Adam or the like.
      truncation: gives the length of each outer step's truncation, the same for all families.
      mesh: one-dimensional, from `particle_mesh`.

    Raises:
      ValueError: without estimators.
    """
    if not estimators:
        raise ValueError("estimators must hold at least one, got none")
    replicated, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(PARTICLES))

    def init(theta, key):
        keys = jax.random.split(key, len(estimators))
        over_mesh = partial(jax.shard_map, mesh=mesh, in_specs=(P(), P()), out_specs=P(PARTICLES))
        states = tuple(jax.jit(over_mesh(e.init))(theta, k) for e, k in zip(estimators, keys, strict=True))
        theta = jax.device_put(jax.tree.map(jnp.array, theta), replicated)  # a copy: the first step donates it
        with jax.numpy_dtype_promotion("standard"):
            opt_state = jax.device_put(outer_optimizer.init(theta), replicated)
        return OuterState(theta, opt_state, states, jax.device_put(jnp.int32(0), replicated))

    def estimate(theta, states, keys, num_steps, datas):
        rows = zip(estimators, states, keys, datas, strict=True)
        results = [e.estimate(theta, state, key, num_steps, data) for e, state, key, data in rows]
        estimates, states = zip(*results, strict=True)
        return estimates, states

    in_specs = (P(), P(PARTICLES), P(), P(), P())
    estimate = jax.shard_map(estimate, mesh=mesh, in_specs=in_specs, out_specs=(P(), P(PARTICLES)))

    @partial(jax.jit, donate_argnums=0, compiler_options=compiler_options())
    def step(state, key, datas):
        key_length, *keys = jax.random.split(jax.random.fold_in(key, state.step), 1 + len(estimators))
        num_steps = truncation.length(key_length, state.step)
        estimates, estimator_states = estimate(state.theta, state.estimator_states, keys, num_steps, datas)
        grad = jax.tree.map(lambda *g: sum(g) / len(g), *(e.grad for e in estimates))
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = outer_optimizer.update(grad, state.opt_state, state.theta)
            theta = optax.apply_updates(state.theta, updates)
        new_state = OuterState(theta, opt_state, tuple(estimator_states), state.step + 1)
        return new_state, _metrics(estimates, num_steps, grad)

    def shardings(state):
        spread_like = jax.tree.map(lambda _: spread, state.estimator_states)
        whole = jax.tree.map(lambda _: replicated, state)
        return whole._replace(estimator_states=spread_like)

    return OuterStep(init, step, shardings, lambda datas: jax.device_put(datas, replicated))


def _metrics(estimates: Sequence[Estimate], num_steps: Array, grad: Any) -> dict[str, Array]:
    """Scalars of a step: means over families, sums for counts; per-family losses where there are several."""
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    infos = [estimate.info for estimate in estimates]
    metrics = {
        "outer_loss": mean([estimate.loss for estimate in estimates]),
        "truncation_length": num_steps,
        "grad_norm": jnp.sqrt(tree_mean(jax.tree.map(jnp.square, grad)) * sum(g.size for g in jax.tree.leaves(grad))),
        "num_non_finite": sum(info.num_non_finite for info in infos),
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
