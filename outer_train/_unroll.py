"""A differentiable unroll of any number of steps from one compilation, in bounded memory.

The step is a batched function: the caller has mapped it over particles, so the loops here have
scalar bounds and stop when they should. Forward, this is a `fori_loop` over chunks of steps.
Backward, the state at the start of each chunk is kept, a chunk is run again from there with its
states kept, and the vector-Jacobian products of its steps are chained by hand. An unroll of one
chunk keeps its states on the way forward. Memory: `ceil(max_num_steps / chunk_size) + chunk_size`
states and the residuals of a single step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Literal

from learned_opt import Theta
from outer_train.checks import check_count
from outer_train.problem import State

Constants = Any
BatchedStep = Callable[[Theta, State, Array, Constants], tuple[State, Array]]


class Unroll(NamedTuple):
    """Final state and summed losses of an unroll.

    Attributes:
      state: after `num_steps` steps, shaped as the initial one.
      loss: sum of the losses of all live steps, shaped as one step's losses.
    """

    state: State
    loss: Array


class Sum(NamedTuple):
    """A sum, and what rounding has added to it (Kahan): alone it stops at 2**24 equal terms."""

    total: Array
    excess: Array


def no_sum(zero: Array) -> Sum:
    """The sum of nothing."""
    return Sum(zero, zero)


def add(total: Sum, term: Array) -> Sum:
    """The sum with one more term."""
    term = term - total.excess
    new = total.total + term
    return Sum(new, (new - total.total) - term)


def unroll(
    step: BatchedStep,
    max_num_steps: int,
    chunk_size: int = 50,
    live: Callable[[Array, Constants], Array] | None = None,
) -> Callable[[Theta, State, Array, Constants], Unroll]:
    """Builds `(theta, state, num_steps, constants) -> Unroll`,
    differentiable by reverse mode in theta and state.

    Args:
      step: `(theta, state, i, constants) -> (state, losses)` with `i` the int32 index of the step
        in this unroll. All of theta's and the state's leaves lead with the axes of `losses`, if a
        `live` mask is given.
      max_num_steps: the largest `num_steps`; more is cut to it. Sets the memory of the backward
        pass.
      chunk_size: steps between kept states; any, a divisor of `num_steps` or not.
      live: `(i, constants) -> bool`, of the leading axes of `losses`. A step that is not live adds
        no loss and passes no cotangent, whatever infinities its derivatives hold. Its state moves
        on: a state that went on past the end of its episode is the caller's to reset.

    Returns:
      The unroll. `num_steps` may be traced. Integer and key leaves carry no cotangent; constants
      have none either.

    Raises:
      ValueError: if a length is no whole number from 1 on.
    """
    check_count(max_num_steps=max_num_steps, chunk_size=chunk_size)
    # Under `jit` the loops trace it once between them; inlined, so that `changing_leaves` sees it.
    loops = _Loops(jax.jit(step, inline=True), max_num_steps, min(chunk_size, max_num_steps), live)
    run = jax.custom_vjp(loops.run)
    run.defvjp(loops.forward, loops.backward)
    return run


class _Bars(NamedTuple):
    """Cotangents of theta, and of the state's floating-point leaves."""

    theta: Theta
    state: list[Array]


class _Loops(NamedTuple):
    """The loops of one unroll; attributes as the arguments of `unroll`,
    with `chunk_size` at most `max_num_steps`.
    """

    step: BatchedStep
    max_num_steps: int
    chunk_size: int
    live: Callable[[Array, Constants], Array] | None

    @property
    def num_chunks(self) -> int:
        return -(-self.max_num_steps // self.chunk_size)

    def run(self, theta, state, num_steps, constants):
        """The unroll, with nothing kept."""
        loss = _zero_loss(self.step, theta, state, constants)
        body = partial(self._accumulate, theta, constants)
        state, loss = lax.fori_loop(
            0, jnp.minimum(num_steps, self.max_num_steps), body, (state, loss)
        )
        return Unroll(state, loss.total)

    def forward(self, theta, state, num_steps, constants):
        """The unroll, and the state at each chunk's start, or at each step of the only chunk."""
        num_steps = jnp.minimum(num_steps, self.max_num_steps)
        carried = changing_leaves(self.step, theta, state, jnp.int32(0), constants)
        one_chunk = self.num_chunks == 1
        kept = [
            _buffer(leaf, self.chunk_size if one_chunk else self.num_chunks)
            for leaf in carried.select(state)
        ]
        loss = _zero_loss(self.step, theta, state, constants)
        start = state
        advance = partial(self._accumulate, theta, constants)
        if one_chunk:  # no need to run it again
            (state, loss), kept = _keep_states(advance, num_steps, carried, (state, loss), kept)
            return Unroll(state, loss.total), (theta, start, kept, num_steps, constants)

        def chunk(c, carry):
            state, loss, kept = carry
            kept = [
                buffer.at[c].set(leaf)
                for buffer, leaf in zip(kept, carried.select(state), strict=True)
            ]
            first = c * self.chunk_size
            # Their sum could overflow.
            last = first + jnp.minimum(self.chunk_size, num_steps - first)
            state, loss = lax.fori_loop(first, last, advance, (state, loss))
            return state, loss, kept

        state, loss, kept = lax.fori_loop(
            0, -(-num_steps // self.chunk_size), chunk, (state, loss, kept)
        )
        return Unroll(state, loss.total), (theta, start, kept, num_steps, constants)

    def backward(self, residuals, cotangents):
        """Cotangents of theta and the start, chunk by chunk from the last."""
        theta, start, kept, num_steps, constants = residuals
        carried = changing_leaves(self.step, theta, start, jnp.int32(0), constants)
        one_chunk = self.num_chunks == 1
        inside = (
            kept
            if one_chunk
            else [_buffer(leaf, self.chunk_size) for leaf in carried.select(start)]
        )
        state_bars = zip(inexact_leaves(cotangents.state), inexact_leaves(start), strict=True)
        # Varies over devices as the state does.
        state_bar = [bar + jnp.zeros_like(leaf) for bar, leaf in state_bars]
        bars = _Bars(jax.tree.map(jnp.zeros_like, theta), state_bar)

        def chunk(c, carry):
            bars, inside = carry
            c = -(-num_steps // self.chunk_size) - 1 - c
            first = c * self.chunk_size
            length = jnp.minimum(self.chunk_size, num_steps - first)
            if not one_chunk:
                state = carried.replace(start, [buffer[c] for buffer in kept])
                advance = lambda j, carry: (self.step(theta, carry[0], first + j, constants)[0],)
                _, inside = _keep_states(advance, length, carried, (state,), inside)

            def pull_back(j, bars):
                j = length - 1 - j
                state = carried.replace(start, [buffer[j] for buffer in inside])
                return self._step_vjp(theta, state, first + j, constants, cotangents.loss, bars)

            return lax.fori_loop(0, length, pull_back, bars), inside

        bars, _ = lax.fori_loop(0, -(-num_steps // self.chunk_size), chunk, (bars, inside))
        return bars.theta, fill_inexact(start, bars.state), None, None

    def _accumulate(self, theta, constants, i, carry):
        state, total = carry
        i = lax.convert_element_type(i, jnp.int32)  # A loop's is weakly typed: traced once more.
        state, loss = self.step(theta, state, i, constants)
        if self.live is not None:
            loss = _where(self.live(i, constants), loss, jnp.zeros_like(loss))
        return state, add(total, loss)

    def _step_vjp(self, theta, state, i, constants, loss_bar, bars):
        """Adds a step's pull-back; `where` acts on cotangents, after products that hold 0 * inf."""

        def differentiable(theta, leaves):
            new_state, loss = self.step(theta, fill_inexact(state, leaves), i, constants)
            return inexact_leaves(new_state), loss

        mask = None if self.live is None else self.live(i, constants)
        _, pull_back = jax.vjp(differentiable, theta, inexact_leaves(state))
        theta_step, state_step = pull_back((bars.state, loss_bar))
        if mask is not None:
            theta_step = jax.tree.map(lambda x: _where(mask, x, jnp.zeros_like(x)), theta_step)
            state_step = [_where(mask, x, jnp.zeros_like(x)) for x in state_step]
        return _Bars(jax.tree.map(jnp.add, bars.theta, theta_step), state_step)


def _keep_states(advance, length, carried, carry, inside):
    """Runs a chunk, `(j, carry) -> carry`, state first; keeps the state before each step."""

    def keep(j, both):
        carry, inside = both
        inside = [
            buffer.at[j].set(leaf)
            for buffer, leaf in zip(inside, carried.select(carry[0]), strict=True)
        ]
        return advance(j, carry), inside

    return lax.fori_loop(0, length, keep, (carry, inside))


def _zero_loss(step, theta, state, constants):
    """Zeros made from theta, so that inside `shard_map` they count as different on each device,
    as theta does.
    """
    loss = jax.eval_shape(step, theta, state, jnp.int32(0), constants)[1]
    some = next(leaf for leaf in jax.tree.leaves(theta) if leaf.size)
    zero = jnp.zeros_like(some.reshape(-1)[0], loss.dtype)
    return no_sum(jnp.broadcast_to(zero, loss.shape))


def _where(mask, x, y):
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y)


def _buffer(leaf, length):
    return jnp.broadcast_to(leaf[None], (length, *leaf.shape))


def _is_inexact(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def inexact_leaves(tree: Any) -> list[Array]:
    """The floating-point leaves of a tree, those that carry derivatives."""
    return [leaf for leaf in jax.tree.leaves(tree) if _is_inexact(leaf)]


def fill_inexact(tree: Any, leaves: list[Array]) -> Any:
    """The tree with its floating-point leaves replaced; the others stay."""
    leaves = iter(leaves)
    return jax.tree.map(lambda leaf: next(leaves) if _is_inexact(leaf) else leaf, tree)


class ChangingLeaves(NamedTuple):
    """Which leaves of the state a step changes; the others (task parameters, say) need no buffer.

    Attributes:
      changes: for each leaf of the state, in the order of `jax.tree.leaves`.
    """

    changes: tuple[bool, ...]

    def select(self, state: State) -> list[Array]:
        """The leaves that change."""
        return [
            leaf
            for leaf, changes in zip(jax.tree.leaves(state), self.changes, strict=True)
            if changes
        ]

    def replace(self, state: State, leaves: list[Array]) -> State:
        """The state with the leaves that change replaced."""
        leaves = iter(leaves)
        old, structure = jax.tree.flatten(state)
        new = [
            next(leaves) if changes else leaf
            for leaf, changes in zip(old, self.changes, strict=True)
        ]
        return structure.unflatten(new)


def changing_leaves(
    step: Callable[..., tuple[State, Array]], theta: Theta, state: State, *rest: Any
) -> ChangingLeaves:
    """Reads from the step's jaxpr which state leaves come out
    of `step(theta, state, *rest)` as they went in.
    """
    jaxpr = jax.make_jaxpr(lambda state: step(theta, state, *rest)[0])(state).jaxpr
    pairs = zip(jaxpr.invars, jaxpr.outvars, strict=True)
    return ChangingLeaves(tuple(isinstance(out, Literal) or out is not into for into, out in pairs))
