"""What is optimized: the contracts `Task` and `TaskFamily`.

A task is a NamedTuple of pure functions. Its data is an argument, never a closed-over array: a
closed-over array becomes a constant of the compiled program, and a replicated array cannot be
closed over inside `jax.shard_map`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Key = Array
"""A typed PRNG key, as `jax.random.key` makes it."""
Params = Any
"""Inner parameters: a tree of arrays."""
Batch = Any
Data = Any
"""Arrays that are handed to jitted code as an argument."""
TaskParams = Any
Metrics = dict[str, Array]

SPLITS = ("train", "inner_valid", "outer_valid", "test")
"""`train` gives inner gradients, `inner_valid` tunes inside a task,
`outer_valid` is the outer objective, `test` is looked at once, at the end."""


class Task(NamedTuple):
    """One training problem.

    Attributes:
      init: `key -> params`, fresh inner parameters.
      loss: `(params, key, batch) -> (scalar loss, metrics)`; metrics may be `{}`.
      sample_batch: `(data, key, split) -> batch`, jittable; `split` is one of `SPLITS` and static.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Params, Key, Batch], tuple[Array, Metrics]]
    sample_batch: Callable[[Data, Key, str], Batch]


class TaskFamily(NamedTuple):
    """A distribution over tasks of one structure, so that tasks of one family vmap together.

    Attributes:
      sample: `key -> task_params`, arrays that tell one task from another (which classes, which
        curvatures).
      task: `task_params -> Task`; called under `jax.vmap`, so it must not branch on values.
      data: arrays shared by all tasks; passed to jitted code as an argument and replicated over the
        mesh.
      weight: how much its outer loss counts where several families are outer-trained on. Losses
        differ in what a factor is worth: the entropy of text leaves its logarithm little room.
    """

    sample: Callable[[Key], TaskParams]
    task: Callable[[TaskParams], Task]
    data: Data = ()
    weight: float = 1.0
