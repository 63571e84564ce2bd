"""The toy of Metz et al. 2019 (arXiv 1810.10180, section 2.3):
momentum in a double well, theta the momentum.

`v <- theta v - rate l'(w)`, `w <- w + v` on l(w) = (w - 4)(w - 3) w^2 from w = -1.2 at rest. The
paper does not print the learning rate; with 0.01 the switch between the wells lies at theta =
0.804. `rate_landscape` turns to the learning rate at one momentum (appendix B).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from outer_train import UnrolledSystem
from tasks.analytic import double_well_loss

START = -1.2
LEARNING_RATE = 0.01
BARRIER = 1.6813
"""Between the local minimum at 0 and the global one at 3.5687."""


class WellState(NamedTuple):
    """Position, velocity and steps done (int32), scalars."""

    position: Array
    velocity: Array
    step: Array


def double_well_problem(max_num_steps: int, learning_rate: float = LEARNING_RATE) -> UnrolledSystem:
    """The final loss of momentum descent as an unrolled system.

    `data` is the episode's length, int32.

    The length is data so that one compilation serves all of them: the step losses are zero but for
    the last one, which is `data` times the loss, so that the mean over `data` steps is the final
    loss.

    Args:
      max_num_steps: the longest length.
      learning_rate: of the descent.
    """

    def init(theta, key):
        del key
        start = jnp.asarray(START, theta.dtype)
        return WellState(start, jnp.zeros_like(start), jnp.int32(0))

    def step(theta, state, key, data):
        del key
        state = _descend(theta, state, learning_rate)
        loss = data.astype(theta.dtype) * double_well_loss(state.position)
        return state, jnp.where(state.step == data, loss, jnp.zeros_like(loss))

    return UnrolledSystem(init, step, max_num_steps, jnp.int32(max_num_steps), "final")


def positions(theta: Array, num_steps: int, learning_rate: Array | float = LEARNING_RATE) -> Array:
    """Positions after each of `num_steps` steps, `[num_steps]`, of one momentum theta."""

    def step(state, _):
        state = _descend(theta, state, learning_rate)
        return state, state.position

    start = jnp.asarray(START, theta.dtype)
    return lax.scan(step, WellState(start, jnp.zeros_like(start), jnp.int32(0)), None, num_steps)[1]


def rate_landscape(
    rates: np.ndarray, momentum: float, lengths: Sequence[int], num_settle_steps: int
) -> dict[str, Any]:
    """The final loss over the learning rate in place of the momentum (appendix B), in 64 bits.

    Slopes are those in the rate's logarithm: in the rate itself the smallest has the steepest.

    Args:
      rates: ascending, `[n]`.
      momentum: of all.
      lengths: T, after which the loss is taken.
      num_settle_steps: after which the well is told.

    Returns:
      `rates`, `paths` `[n, num_settle_steps]`, `final_losses` length -> `[n]`, and `numbers`.
    """
    with jax.enable_x64(True):
        path = lambda log_rate, n: positions(jnp.float64(momentum), n, jnp.exp(log_rate))
        logs = np.log(rates)
        paths = np.asarray(jax.jit(jax.vmap(lambda x: path(x, num_settle_steps)))(logs))
        final_losses, steepest = {}, {}
        for n in lengths:
            final = lambda x, n=n: double_well_loss(path(x, n)[-1])
            losses, slopes = jax.jit(jax.vmap(jax.value_and_grad(final)))(logs)
            final_losses[n], steepest[str(n)] = np.asarray(losses), float(np.abs(slopes).max())
    far = paths[:, -1] > BARRIER
    jumps = {str(n): float(np.abs(np.diff(losses)).max()) for n, losses in final_losses.items()}
    numbers = {
        "momentum": momentum,
        "first_rate_in_the_far_well": float(rates[np.argmax(far)]),
        "num_switches": int(np.sum(far[1:] != far[:-1])),
        "max_abs_slope": steepest,
        "largest_jump_between_neighbours": jumps,
    }
    return {"rates": rates, "paths": paths, "final_losses": final_losses, "numbers": numbers}


def _descend(theta, state, learning_rate):
    velocity = theta * state.velocity - learning_rate * jax.grad(double_well_loss)(state.position)
    return WellState(state.position + velocity, velocity, state.step + 1)
