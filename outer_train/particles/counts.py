"""What an estimator counts beside gradients, and the one message in which both cross devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outer_train.particles._moments import FirstPass, first_pass
from outer_train.trees import Tree, share_of

LARGEST_EXACT = 2**26
"""Inner steps of one estimate up to which they are counted as int32, so that 32 families' add up;
beyond it they are counted as floats, to seven digits."""


class Counts(NamedTuple):
    """Scalars, of one device's particles (or pairs) or of all.

    Attributes:
      loss: sum of the finite losses, scaled so that it is no larger than the largest of them.
      num_losses: how many those are, float, scaled as well.
      num_live_steps: inner steps that counted, int32 or float: see `LARGEST_EXACT`.
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
        """Over the particles with a finite one; unknown, nan, where there is none."""
        # No division by zero, which a debugger of nans would report
        # in place of what made the losses so.
        mean = self.loss / jnp.where(self.num_losses > 0, self.num_losses, 1)
        return jnp.where(self.num_losses > 0, mean, jnp.nan)

    def reported(self, sides: int = 1) -> dict[str, Array]:
        """What an `Info` says of them; a step counts once for each of the `sides` that take it."""
        return {
            "num_non_finite": self.num_non_finite,
            "num_resets": self.num_resets,
            "num_live_steps": sides * self.num_live_steps,
        }


def count(
    loss: Array,
    good: Array,
    num_live: Array,
    restarted: Array,
    *,
    num_particles: int,
    max_num_steps: int,
) -> Counts:
    """Counts this device's particles.

    Args:
      loss: `[particles]`.
      good: bool `[particles]`, whether gradient and loss are finite.
      num_live: int32 `[particles]`, inner steps that counted.
      restarted: bool `[particles]`.
      num_particles: over all devices.
      max_num_steps: the most steps of one particle, both sides of a pair counted.
    """
    finite, share = jnp.isfinite(loss), share_of(num_particles)
    exact = num_particles * max_num_steps <= LARGEST_EXACT
    return Counts(
        jnp.sum(jnp.where(finite, loss * share, 0)),
        jnp.sum(finite, dtype=loss.dtype) * share,
        jnp.sum(num_live, dtype=jnp.int32 if exact else jnp.result_type(float)),
        jnp.sum(restarted, dtype=jnp.int32),
        jnp.sum(~good, dtype=jnp.int32),
    )


def over_live_steps(
    samples: Tree, counts: Counts, num_steps: Array, num_particles: int, axis_name: str | None
) -> tuple[Tree, FirstPass, Counts]:
    """The first pass over samples, and the counts, of all devices;
    per live step instead of per step.

    Before this nobody knows how many steps of the others are live, so all of it can be one message.

    Args:
      samples: leaves `[particles, ...]`: gradients of losses summed over live steps, over the
        truncation's length.
      counts: of this device; its loss in the same unit.
      num_steps: int, the truncation's length.
      num_particles: over all devices; `num_live_steps` would be `num_particles * num_steps` if no
        episode had ended.
      axis_name: mesh axis to sum over, or None.
    """
    first, counts = first_pass(samples, axis_name, beside=counts)

    def scale(x):
        # Floats: in int32 the product would overflow from 2**31 inner steps on.
        return x * (
            num_steps.astype(x.dtype) * num_particles / counts.num_live_steps.astype(x.dtype)
        )

    samples, mean, largest, loss = jax.tree.map(
        scale, (samples, first.mean, first.largest, counts.loss)
    )
    return samples, first._replace(mean=mean, largest=largest), counts._replace(loss=loss)
