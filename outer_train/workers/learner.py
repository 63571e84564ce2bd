"""The learner: takes gradients or drops them, and steps theta once it has a batch."""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from outer_train.checks import check_theta
from outer_train.guard import guarded_update
from outer_train.workers.ledger import Ledger
from outer_train.workers.merge import Merged, merge
from outer_train.workers.messages import Gradient, defect

ACCEPTED, STALE, DUPLICATE, REFUSED = "accepted", "stale", "duplicate", "refused"


class LearnerState(NamedTuple):
    """All that a checkpoint holds.

    Attributes:
      theta: outer parameters.
      opt_state: of the outer optimizer.
      step: int32, outer steps done; theta's version.
      num_lives: int32, worker processes that were ever started, so that new ones get new particles.
    """

    theta: Any
    opt_state: Any
    step: Array
    num_lives: Array


def fresh_state(theta: Any, outer_optimizer: optax.GradientTransformation) -> LearnerState:
    """The state of a run that begins.

    Raises `ValueError` for a theta that is empty or not finite.
    """
    check_theta(theta)
    theta = jax.tree.map(jnp.asarray, theta)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = jax.tree.map(jnp.asarray, outer_optimizer.init(theta))
    return LearnerState(theta, opt_state, jnp.int32(0), jnp.int32(0))


class Learner:
    """Theta and the batch that is being gathered."""

    def __init__(
        self,
        state: LearnerState,
        outer_optimizer: optax.GradientTransformation,
        *,
        gradients_per_step: int,
        max_staleness: int,
        weighting: str = "elementwise",
    ):
        """Starts with an empty batch.

        Args:
          state: fresh, or restored.
          outer_optimizer: an Optax chain.
          gradients_per_step: gradients that make one outer step, at least.
          max_staleness: outer steps by which a gradient's theta may be behind the learner's.
          weighting: of the parts of a merge.

        Raises:
          ValueError: for a batch below 1, a negative staleness, or a theta that is not finite.
        """
        check_theta(state.theta)
        if gradients_per_step < 1 or max_staleness < 0:
            raise ValueError(
                "gradients_per_step must be at least 1 and max_staleness at least 0, "
                f"got {gradients_per_step} and {max_staleness}"
            )
        self.theta, self.opt_state, self.step_count = state.theta, state.opt_state, int(state.step)
        self.ledger = Ledger()
        self._gradients_per_step, self._max_staleness = gradients_per_step, max_staleness
        self._weighting = weighting
        self._batch: list[Gradient] = []
        vector, unravel = ravel_pytree(self.theta)
        self.size = vector.size

        guarded = guarded_update(outer_optimizer)

        @jax.jit
        def update(theta, opt_state, grad, known):
            theta, opt_state, taken = guarded(theta, opt_state, unravel(grad), known)
            return theta, opt_state, ravel_pytree(theta)[0], taken

        self._update = update
        self._vector = np.asarray(vector)

    @property
    def vector(self) -> np.ndarray:
        """Theta as one vector `[size]`."""
        return self._vector

    def state(self, num_lives: int) -> LearnerState:
        """What a checkpoint holds; the batch being gathered is not in it and is gathered anew."""
        return LearnerState(
            self.theta, self.opt_state, jnp.int32(self.step_count), jnp.int32(num_lives)
        )

    def offer(self, gradient: Gradient) -> str:
        """Takes the gradient into the batch, or says why not: `refused`, `duplicate` or `stale`."""
        if (
            gradient.version > self.step_count
            or gradient.means.shape[-1] != self.size
            or defect(gradient)
        ):
            return REFUSED
        if self.ledger.knows(gradient.life, gradient.sequence):
            return DUPLICATE
        if self.step_count - gradient.version > self._max_staleness:
            return STALE
        self.ledger.count(gradient.life, gradient.sequence)
        self._batch.append(gradient)
        return ACCEPTED

    def is_ready(self, families: Collection[int] = ()) -> bool:
        """Whether the batch is full and holds a gradient of each of `families`,
        those that somebody works on.

        Without the second condition a family of slow tasks would count as little as it is slow.
        """
        return len(self._batch) >= self._gradients_per_step and {
            g.family for g in self._batch
        } >= set(families)

    def step(self) -> tuple[list[Gradient], Merged]:
        """Steps theta by the batch, if that gives a finite theta;
        returns what the step was made of.
        """
        batch, self._batch = self._batch, []
        merged = merge(batch, self._weighting)
        grad = jnp.asarray(merged.grad.astype(self._vector.dtype))
        known = jnp.bool_(merged.known)
        self.theta, self.opt_state, vector, taken = self._update(
            self.theta, self.opt_state, grad, known
        )
        self._vector = np.asarray(vector)
        self.step_count += 1
        return batch, merged._replace(taken=bool(taken))
