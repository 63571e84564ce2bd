"""What an estimator counts beside gradients, and the one message in which both cross devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.moments import FirstPass, first_pass

Tree = Any


class Counts(NamedTuple):
    """Scalars, of one device's particles (or pairs) or of all.

    Attributes:
      loss: sum of the finite losses.
      num_losses: how many those are, float.
      num_live_steps: inner steps that counted, int.
      num_resets: particles that start a new episode, int.
      num_non_finite: particles whose gradient or loss was not finite, int.
    """

    loss: Array
    num_losses: Array
    num_live_steps: Array
    num_resets: Array
    num_non_finite: Array

    @property
    def mean_loss(self) -> Array:
        """Over the particles with a finite one; zero where there is none."""
        return self.loss / jnp.maximum(self.num_losses, 1)


def count(loss: Array, good: Array, num_live: Array, restarted: Array) -> Counts:
    """Counts this device's particles; all arguments are `[particles]`."""
    finite = jnp.isfinite(loss)
    return Counts(
        jnp.sum(jnp.where(finite, loss, 0)),
        jnp.sum(finite, dtype=loss.dtype),
        jnp.sum(num_live),
        jnp.sum(restarted),
        jnp.sum(~good),
    )


def over_live_steps(
    samples: Tree, counts: Counts, num_steps: Array, axis_name: str | None
) -> tuple[Tree, FirstPass, Counts]:
    """The first pass over samples, and the counts, of all devices; per live step instead of per step.

    Before this nobody knows how many steps of the others are live, so all of it can be one message.

    Args:
      samples: leaves `[particles, ...]`: gradients of losses summed over live steps, over the truncation's length.
      counts: of this device; its loss in the same unit.
      num_steps: int, all particles' steps if no episode had ended: particles times the truncation's length.
      axis_name: mesh axis to sum over, or None.
    """
    first, counts = first_pass(samples, axis_name, beside=counts)
    scale = lambda x: x * (num_steps.astype(x.dtype) / counts.num_live_steps.astype(x.dtype))  # noqa: E731
    samples, mean, loss = jax.tree.map(scale, (samples, first.mean, counts.loss))
    return samples, first._replace(mean=mean), counts._replace(loss=loss)
