"""An estimator of your own, in a config file that uses it.

    learned-opt train docs/guides/estimator_skeleton.py --num-outer-steps 100

It is antithetic evolution strategies whose perturbations all have one length: they are drawn on a
sphere instead of from a normal distribution. Replace what stands under "the estimate" by yours.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from configs.base import (
    Constant,
    Estimator,
    HeldOut,
    InnerProblem,
    Mlp,
    RandomQuadratic,
    TrainConfig,
    register,
)
from outer_train import UnrolledSystem, checks
from outer_train.estimators import Estimate, GradientEstimator, Info
from outer_train.particles import vary


class State(NamedTuple):
    """Every leaf leads with the pairs of this device."""

    inner: Any
    step: Array


def spherical_es(
    problem: UnrolledSystem,
    num_pairs: int,
    std: float = 0.01,
    axis_name: str | None = None,
    *,
    max_num_steps: int | None = None,
) -> GradientEstimator:
    """Truncated evolution strategies with perturbations of one length.

    Args:
      problem: what is unrolled.
      num_pairs: antithetic pairs over all devices.
      std: root mean square of a perturbation's numbers.
      axis_name: the mesh axis that pairs are spread over; None on a single device.
      max_num_steps: longest truncation that will be asked for.
    """
    checks.check_count(num_pairs=num_pairs, max_num_steps=max_num_steps)
    checks.check_std(std)

    def keys(key: Array) -> Array:
        """A key for each pair of this device, the same on any number of devices."""
        first, number = 0, num_pairs
        if axis_name is not None:
            number = num_pairs // lax.axis_size(axis_name)
            first = lax.axis_index(axis_name) * number
        return jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(number))

    def init(theta, key):
        theta = vary(theta, axis_name)
        inner = jax.vmap(partial(problem.init, theta))(keys(key))
        steps = jnp.zeros(len(keys(key)), jnp.int32)
        return State(inner, vary(steps, axis_name))

    def losses(theta, inner, key, num_live, data):
        """One side: the state after so many steps, and the sum of their losses."""

        def body(i, carry):
            state, total = carry
            state, loss = problem.step(theta, state, jax.random.fold_in(key, i), data)
            return state, total + loss

        return lax.fori_loop(0, num_live, body, (inner, vary(jnp.float32(0), axis_name)))

    def estimate(theta, state, key, num_steps, data=()):
        data = problem.data if isinstance(data, tuple) and not data else data
        flat, unravel = ravel_pytree(vary(theta, axis_name))
        key_noise, key_run, key_reset = jax.random.split(key, 3)

        def pair(key_noise, key_run, key_reset, inner, step):
            # ---- the estimate -------------------------------------------------------------
            noise = jax.random.normal(key_noise, flat.shape)
            noise *= std * jnp.sqrt(flat.size) / jnp.linalg.norm(noise)
            num_live = jnp.minimum(num_steps, problem.num_steps - step)
            after, up = losses(unravel(flat + noise), inner, key_run, num_live, data)
            _, down = losses(unravel(flat - noise), inner, key_run, num_live, data)
            grad = (up - down) / (2 * std**2) * noise
            # ---- the end of an episode, or of a state that is not finite -------------------
            is_finite = jnp.isfinite(up) & jnp.isfinite(down)
            is_over = (step + num_live >= problem.num_steps) | ~is_finite
            fresh = problem.init(unravel(flat), key_reset)
            after = jax.tree.map(lambda new, old: jnp.where(is_over, new, old), fresh, after)
            step = jnp.where(is_over, 0, step + num_live)
            known = lambda x: jnp.where(is_finite, x, jnp.zeros_like(x))
            sums = known(grad), known((up + down) / 2), known(num_live)
            return State(after, step), sums, is_finite, is_over

        all_keys = keys(key_noise), keys(key_run), keys(key_reset)
        state, sums, is_finite, is_over = jax.vmap(pair)(*all_keys, *state)

        total = lambda x: lax.psum(x.sum(0), axis_name) if axis_name else x.sum(0)
        grad, loss, num_live = map(total, sums)
        share = jnp.maximum(num_live, 1).astype(loss.dtype)
        info = Info(
            num_non_finite=total((~is_finite).astype(jnp.int32)),
            num_resets=total(is_over.astype(jnp.int32)),
            num_live_steps=2 * num_live,
            num_steps=num_steps,
            variance={},
            weight={},
            diagnosis={},
            num_unknown=jnp.where(num_live > 0, 0, flat.size),
        )
        return Estimate(unravel(grad / share), loss / share, info), state

    return GradientEstimator(init, estimate)


@register
@dataclasses.dataclass(frozen=True)
class SphericalES(Estimator):
    """Evolution strategies with perturbations of one length; biased by short truncations."""

    builds = spherical_es
    bias = "short-horizon"
    variance = "level"
    label = "spherical ES"

    num_pairs: int = 32
    """Antithetic pairs, over all devices."""
    std: float = 0.01
    """Root mean square of a perturbation's numbers."""


config = TrainConfig(
    family=RandomQuadratic(dim=10),
    optimizer=Mlp(step_multiplier=0.1),
    problem=InnerProblem(num_steps=100),
    estimator=SphericalES(num_pairs=16),
    truncation=Constant(num_steps=10),
    held_out=HeldOut(num_tasks=32, num_steps=100),
    num_outer_steps=500,
)
