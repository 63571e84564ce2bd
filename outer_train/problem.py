"""The contract of an unrolled system,
and the one built from a task family and a learned optimizer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from learned_opt import LearnedOptimizer, Theta
from learned_opt.trees import at_least_float32
from outer_train.checks import check_count, check_positive, check_within
from tasks import Data, Key, TaskFamily, as_stateful, check_model_state
from tasks.numerics import threefry

State = Any

SUM_REDUCTIONS = ("mean", "late_mean", "mean_log", "final", "log_final")
"""Reductions that are sums of step losses, which every estimator takes."""
REDUCTIONS = (*SUM_REDUCTIONS, "log_mean")
OBJECTIVES = {"valid": "outer_valid", "train": "train"}


class UnrolledSystem(NamedTuple):
    """Any unrolled system with outer parameters theta; not only optimizers.

    Attributes:
      init: `(theta, key) -> state`, the start of an episode. It may use theta's value, but no
        estimator sends a gradient through it: what theta does belongs into `step`.
      step: `(theta, state, key, data) -> (state, loss)`; the loss is the outer loss of this step, a
        scalar.
      num_steps: length T of an episode.
      data: arrays handed to `step`; an argument of jitted programs, never closed over.
      reduction: how an episode's step losses make its outer loss. Those of `SUM_REDUCTIONS` are
        means of what `step` returns, and every estimator takes them; others are refused by the
        estimators that need a sum.
    """

    init: Callable[[Theta, Key], State]
    step: Callable[[Theta, State, Key, Data], tuple[State, Array]]
    num_steps: int
    data: Data = ()
    reduction: str = "mean"


InnerProblem = UnrolledSystem
"""The same class by its short name; `configs.base.InnerProblem` describes one in a config."""


class InnerState(NamedTuple):
    """One inner training run: its parameters, its optimizer's state, which task it is, its step
    (int32), the network's own state, `()` if it has none, and the number of steps that the
    optimizer is told, `()` where all episodes tell theirs. 0 is for none: an infinity would have
    every truncation look whether the run is lost.
    """

    params: Any
    opt_state: Any
    task_params: Any
    step: Array
    model_state: Any = ()
    told: Any = ()


def inner_problem(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    num_steps: int,
    objective: str = "valid",
    reduction: str = "mean",
    *,
    log_offset: float = 0.1,
    loss_clip: float = 10.0,
    num_loss_batches: int = 1,
) -> UnrolledSystem:
    """Inner training of tasks from a family,
    as a system unrolled in theta (Metz et al. 2019, arXiv 1810.10180, fig 1).

    A step draws a training batch, applies the optimizer, and returns the loss of the new parameters
    on fresh batches. A `tasks.StatefulTask` goes on from the model state of the training batch; the
    fresh batches are seen as at test time, with that state, and do not change it. Estimators carry
    it with the parameters, and gradients flow through it.

    Args:
      family: each episode draws one of its tasks. Its weight multiplies what `step` returns; its
        `share_told` says how many episodes tell their length to an optimizer that takes it.
      optimizer: makes the Optax transformation from theta.
      num_steps: inner steps T of an episode.
      objective: `"valid"` measures the step's loss on fresh batches of the split `outer_valid`,
        `"train"` on fresh batches of `train`.
      reduction: `"mean"` of the step losses: bounded gradients early on, weighs the whole curve.
        `"late_mean"`: mean weighted by the square of the share of the episode that is done, in
        which the last third counts for 0.7: between the whole curve and its end, which VeLO
        (arXiv 2211.09760) trains on. `"mean_log"`: mean of log(log_offset + loss), likewise
        bounded, in which the low end of the curve counts as much as its start (for losses above
        -log_offset; lower ones count as that).
        `"final"`: the last step's loss alone (its step losses are zero elsewhere and T times the
        loss at the end, so that their mean is the final loss); with truncations shorter than the
        episode most carry no signal, and on unstable systems its gradient grows or vanishes
        exponentially in T. `"log_final"`: log of it, whose gradient neither explodes nor vanishes
        on quadratics (Wang et al., arXiv 2006.16495), for losses above zero. `"log_mean"`: log of
        the mean, scale-free across tasks, but no sum of step losses: only whole-episode estimators
        take it.
      log_offset: positive, in the loss's unit (nats). On a small batch the logarithm of the loss
        alone would reward being sure of most examples above being right about the rest.
      loss_clip: step losses are cut to at most this, and a loss that is not a number counts as this
        much.
      num_loss_batches: batches averaged into each step's loss (the paper's code draws 5).

    Returns:
      The inner problem; its data is the family's.

    Raises:
      ValueError: for a length or batch count below 1, a clip, offset or weight that is not positive
        and finite, a share outside [0, 1], an unknown name, or tasks that do not keep their model
        state's shapes and types.
    """
    check_count(num_steps=num_steps, num_loss_batches=num_loss_batches)
    check_positive(loss_clip=loss_clip, log_offset=log_offset)
    check_within(0.0, 1.0, share_told=family.share_told)
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    check_positive(**{"a family's weight": family.weight})
    if family.weight != 1.0 and reduction == "log_mean":
        raise ValueError(
            f"a family's weight must be above 0, and 1 with log_mean; got {family.weight}"
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    check_model_state(family)
    draw_told, made = _told(optimizer, num_steps, family.share_told)

    def init(theta, key):
        key_task, key_params = jax.random.split(key)
        told = draw_told(key)
        task_params = family.sample(key_task)
        params, model_state = as_stateful(family.task(task_params)).init(key_params)
        opt_state = made(theta, told).init(params)
        return InnerState(params, opt_state, task_params, jnp.int32(0), model_state, told)

    def step(theta, state, key, data):
        key_batch, key_train, key_loss = threefry.split(key, 3)
        task = as_stateful(family.task(state.task_params))
        batch = task.sample_batch(data, key_batch, "train")
        value, model_state, grads = _training_loss(task, state, key_train, batch)
        update = made(theta, state.told).update
        updates, opt_state = update(grads, state.opt_state, state.params, value=value)
        params = optax.apply_updates(state.params, updates)
        trained = params, model_state
        loss = _outer_loss(task, trained, key_loss, data, OBJECTIVES[objective], num_loss_batches)
        loss = clip_loss(loss, loss_clip)
        loss = _reduced(loss, reduction, log_offset, state.step, num_steps)
        if family.weight != 1.0:
            loss = family.weight * loss
        after = {"params": params, "opt_state": opt_state, "model_state": model_state}
        return state._replace(step=state.step + 1, **after), loss

    return UnrolledSystem(init, step, num_steps, family.data, reduction)


def problem_data(problem: UnrolledSystem, data: Data) -> Data:
    """The data handed to `estimate`, or the problem's own where none was."""
    return problem.data if isinstance(data, tuple) and not data else data


def clip_loss(loss: Array, loss_clip: float) -> Array:
    """At most `loss_clip`; a loss that is not a number counts
    as that too (`jnp.clip` alone would keep it).
    """
    return jnp.where(jnp.isnan(loss), jnp.full_like(loss, loss_clip), jnp.clip(loss, max=loss_clip))


def _reduced(loss: Array, reduction: str, offset: float, step: Array, num_steps: int) -> Array:
    """What a step's loss is in an episode's reduction."""
    if reduction == "mean_log":
        loss = jnp.log(jnp.maximum(loss + offset, jnp.finfo(loss.dtype).tiny))
    if reduction == "log_final":
        loss = jnp.log(jnp.maximum(loss, jnp.finfo(loss.dtype).tiny))
    if reduction == "late_mean":
        loss = late_weight(step, num_steps).astype(loss.dtype) * loss
    if reduction in ("final", "log_final"):
        loss = jnp.where(step == num_steps - 1, num_steps * loss, jnp.zeros_like(loss))
    return loss


def late_weight(step: ArrayLike, num_steps: int) -> Array:
    """What a step's loss counts in the reduction `"late_mean"`.

    Proportional to the square of the share of the episode that is done with this step; the mean
    over an episode is 1.

    Args:
      step: from 0 on, of any shape; NumPy's too.
      num_steps: of the episode.

    Example:
      >>> late_weight(1, 2)
      1.6
    """
    mean_square = (num_steps + 1) * (2 * num_steps + 1) / (6 * num_steps**2)
    return ((step + 1) / num_steps) ** 2 / mean_square


def _told(optimizer: LearnedOptimizer, num_steps: int, share: float) -> tuple[Callable, Callable]:
    """How an episode's optimizer is made: `key -> told`, which draws from the episode's key what it
    is told, and `(theta, told) -> transformation`.
    """
    if share == 1.0 or not optimizer.takes_num_steps:
        return lambda key: (), lambda theta, told: optimizer.within(num_steps)(theta)

    def draw(key):
        key = jax.random.fold_in(key, 2)  # 0 and 1 make the keys of a split in two
        return jnp.where(jax.random.uniform(key) < share, jnp.float32(num_steps), 0.0)

    return draw, lambda theta, told: optimizer.within(jnp.where(told > 0, told, jnp.inf))(theta)


def _training_loss(task, state, key, batch):
    """The loss at the state's parameters, the model state that comes with it, and the gradient."""

    def loss(params):
        value, (model_state, _) = task.loss(params, state.model_state, key, batch)
        return value, model_state

    (value, model_state), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return value, model_state, grads


def _outer_loss(task, trained, key, data, split, num_batches):
    def one(key):
        key_batch, key_loss = threefry.split(key, 2)
        batch = task.sample_batch(data, key_batch, split)
        return task.eval_loss(*trained, key_loss, batch)[0]

    loss = (
        one(key)
        if num_batches == 1
        else jnp.mean(jax.vmap(one)(jax.random.split(key, num_batches)))
    )
    return loss.astype(at_least_float32(loss.dtype))
