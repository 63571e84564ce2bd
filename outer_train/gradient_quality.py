"""How good an estimator's outer gradient is at one theta:
its size, its spread, and the angle to a reference.

Theta stays where it is while an estimator runs on as it would in training: particles are spread
over their episodes and live on from one truncation to the next. A whole episode passes before the
first estimate counts, so that persistent estimators have the noise of their past with them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from learned_opt import Theta
from outer_train.checks import check_count
from outer_train.devices import PARTICLES
from outer_train.estimators.base import GradientEstimator


class GradientSummary(NamedTuple):
    """What repeated estimates at one theta look like; plain floats, nan where no estimate is known.

    An estimate is known if one of its samples is finite; the others are left out.

    Attributes:
      norm: of the mean over estimates, the size of what the estimator agrees with itself on (and of
        its noise).
      mean_norm: mean over estimates of the norm, the size of what an outer step gets.
      variance: of one estimate, mean over outer parameters; nan for fewer than two.
      cosine: between the mean over estimates and the reference; nan if either is zero.
      mean_cosine: mean over estimates of the cosine between one estimate and the reference.
      loss: mean outer loss over the estimates that have one.
      num_non_finite: particles whose gradient or loss was not finite; they are left out of the
        estimates.
    """

    norm: float
    mean_norm: float
    variance: float
    cosine: float
    mean_cosine: float
    loss: float
    num_non_finite: int


class Estimates(NamedTuple):
    """Repeated estimates at one theta.

    Attributes:
      grads: float64 `[estimates, outer parameters]`, leaves of theta in their order; a row of nan
        for an estimate without any finite sample.
      losses: `[estimates]`.
      num_non_finite: in all.
    """

    grads: np.ndarray
    losses: np.ndarray
    num_non_finite: int


class Sampler:
    """Runs one estimator over and over at a fixed theta.

    One compilation serves all lengths and counts.
    """

    def __init__(self, estimator: GradientEstimator, num_steps_per_episode: int, mesh: Mesh):
        """Compiles nothing yet.

        Args:
          estimator: built with the mesh's axis name, and staggered if it can be.
          num_steps_per_episode: T, how long an estimator runs before its estimates count.
          mesh: from `particle_mesh`; its size divides the particles.
        """
        self._num_steps_per_episode = num_steps_per_episode
        init = jax.shard_map(estimator.init, mesh=mesh, in_specs=(P(), P()), out_specs=P(PARTICLES))
        specs = (P(), P(PARTICLES), P(), P(), P(), P())
        run = jax.shard_map(
            self._run_with(estimator), mesh=mesh, in_specs=specs, out_specs=(P(), P(PARTICLES))
        )
        self._init, self._run = jax.jit(init), jax.jit(run)

    def __call__(
        self,
        theta: Theta,
        key: Array,
        num_steps: int,
        num_estimates: int,
        data: Any,
        burn_in: bool = True,
    ) -> Estimates:
        """Estimates at theta.

        Args:
          theta: outer parameters.
          key: of everything random.
          num_steps: truncation length.
          num_estimates: how many, at least 2.
          data: of the inner problem.
          burn_in: let an episode pass first; not needed by an estimator that keeps nothing.

        Raises:
          ValueError: for fewer than two estimates.
        """
        check_count(2, num_estimates=num_estimates)
        check_count(num_steps=num_steps)
        key_init, key_run = jax.random.split(key)
        state = self._init(theta, key_init)
        num_skipped = -(-self._num_steps_per_episode // num_steps) if burn_in else 0
        rows = []
        for i in range(num_skipped + num_estimates):
            row, state = self._run(theta, state, key_run, jnp.int32(i), jnp.int32(num_steps), data)
            if i >= num_skipped:
                rows.append(jax.device_get(row))  # waits, which also keeps few programs in flight
            elif i % 8 == 0:
                jax.block_until_ready(row)
        grads, losses, counts = (np.stack(column) for column in zip(*rows, strict=True))
        return Estimates(grads.astype(np.float64), losses.astype(np.float64), int(counts.sum()))

    @staticmethod
    def _run_with(estimator):
        def run(theta, state, key, i, num_steps, data):
            estimate, state = estimator.estimate(
                theta, state, jax.random.fold_in(key, i), num_steps, data
            )
            flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(estimate.grad)])
            if estimate.info.num_unknown is not None:
                flat = jnp.where(estimate.info.num_unknown < flat.size, flat, jnp.nan)
            return (
                flat,
                estimate.loss,
                lax.convert_element_type(estimate.info.num_non_finite, jnp.int32),
            ), state

        return run


def summarize(estimates: Estimates, reference: np.ndarray) -> GradientSummary:
    """Size, spread and angle of the estimates.

    Args:
      estimates: from a `Sampler`.
      reference: `[outer parameters]`, what the gradient should be.
    """
    grads = known(estimates.grads)
    mean = _mean(grads)
    losses = estimates.losses[np.isfinite(estimates.losses)]
    return GradientSummary(
        norm=norm(mean),
        mean_norm=float(_mean(np.array([norm(grad) for grad in grads]))),
        variance=float(grads.var(axis=0, ddof=1).mean()) if len(grads) > 1 else float("nan"),
        cosine=cosine(mean, reference),
        mean_cosine=float(_mean(np.array([cosine(grad, reference) for grad in grads]))),
        loss=float(_mean(losses)),
        num_non_finite=estimates.num_non_finite,
    )


def reliability(estimates: Estimates) -> float:
    """Cosine between the mean gradients of both halves of the estimates.

    Near 1 for a reference that may be trusted. The mean over all has a cosine of about
    `sqrt(2 r / (1 + r))` with the expected gradient at reliability r, and no estimator can be shown
    to be closer than that.
    """
    grads = known(estimates.grads)
    half = len(grads) // 2
    return cosine(_mean(grads[:half]), _mean(grads[half:]))


def without_noise(cosine: float, *reliabilities: float) -> float:
    """The cosine between two expected gradients,
    from that of their means and the `reliability` of each.

    Noise turns a mean away from what it is the mean of, by a cosine of about `sqrt(2 r / (1 + r))`.
    What is left after dividing by that is due to bias. At most 1; nan where a reliability is not
    above 0.
    """
    if not all(each > 0 for each in reliabilities):
        return float("nan")
    kept = np.prod([np.sqrt(2 * each / (1 + each)) for each in reliabilities])
    return float(np.clip(cosine / kept, -1, 1))


def known(grads: np.ndarray) -> np.ndarray:
    """The rows that are finite, `[known estimates, outer parameters]`."""
    return grads[np.isfinite(grads).all(axis=1)]


def norm(a: np.ndarray) -> float:
    """Euclidean norm of a vector, of which only the result may overflow."""
    scale = np.abs(a).max(initial=0.0)
    return float(scale * np.linalg.norm(a / scale)) if 0 < scale < np.inf else float(scale)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors, whatever their size;
    nan if one is zero or not finite.
    """
    scales = [np.abs(x).max(initial=0.0) for x in (a, b)]
    if not all(0 < scale < np.inf for scale in scales):
        return float("nan")
    a, b = (x / scale for x, scale in zip((a, b), scales, strict=True))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _mean(rows: np.ndarray) -> np.ndarray:
    """The mean over the first axis; nan, without a warning, over none."""
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan)
