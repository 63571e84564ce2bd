"""What is optimized: the contracts `Task`, `StatefulTask` and `TaskFamily`.

A task is a NamedTuple of pure functions. Its data is an argument, never a closed-over array: a
closed-over array becomes a constant of the compiled program, and a replicated array cannot be
closed over inside `jax.shard_map`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jax import Array

Key = Array
"""A typed PRNG key, as `jax.random.key` makes it."""
Params = Any
"""Inner parameters: a tree of arrays."""
ModelState = Any
"""What a network keeps between steps and no gradient trains: a tree of arrays of any type."""
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


class StatefulTask(NamedTuple):
    """A training problem whose network keeps a state beside its parameters: the statistics of batch
    normalization, a codebook, a counter, a PRNG key.

    A training step computes the gradient of `loss` and goes on from the state that came with it.
    Everything that is measured, a validation objective included, is `eval_loss`: it takes the state
    as the network wants it at test time and changes nothing. Shapes, types and structure of the
    state are those of `init` for ever. Its floating-point numbers stay finite: a particle of an
    estimator that holds another starts a new episode.

    Attributes:
      init: `key -> (params, model_state)`; the state may be empty, for a network that is only
        another one at test time (dropout).
      loss: `(params, model_state, key, batch) -> (scalar loss, (model_state, metrics))`, in
        training. Outer gradients go through the new state.
      eval_loss: `(params, model_state, key, batch) -> (scalar loss, metrics)`, at test time.
      sample_batch: as of a `Task`.

    Example, a running mean of the inputs that is taken off them:

      def loss(params, mean, key, batch):
          mean = 0.9 * mean + 0.1 * batch.mean()
          return jnp.square(params * batch - mean).mean(), (mean, {})

      def eval_loss(params, mean, key, batch):
          return jnp.square(params * batch - mean).mean(), {}

      StatefulTask(lambda key: (jnp.ones(()), jnp.zeros(())), loss, eval_loss, sample_batch)
    """

    init: Callable[[Key], tuple[Params, ModelState]]
    loss: Callable[[Params, ModelState, Key, Batch], tuple[Array, tuple[ModelState, Metrics]]]
    eval_loss: Callable[[Params, ModelState, Key, Batch], tuple[Array, Metrics]]
    sample_batch: Callable[[Data, Key, str], Batch]


class WindowIterator(Protocol):
    """Windows of a set that is too large for the device, without end. An iterator of `grain`,
    `grain.DatasetIterator`, is one.
    """

    def __next__(self) -> Data:
        """The next window: NumPy arrays of the same structure, shapes and types as all others."""

    def get_state(self) -> dict[str, Any]:
        """Where it stands, for JSON."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was called."""

    def close(self) -> None:
        """Frees what it holds."""


class TaskFamily(NamedTuple):
    """A distribution over tasks of one structure, so that tasks of one family vmap together.

    Attributes:
      sample: `key -> task_params`, arrays that tell one task from another (which classes, which
        curvatures).
      task: `task_params -> Task`, or a `StatefulTask`; called under `jax.vmap`, so it must not
        branch on values.
      data: arrays shared by all tasks; passed to jitted code as an argument and replicated over the
        mesh.
      weight: how much its outer loss counts where several families are outer-trained on. Losses
        differ in what a factor is worth: the entropy of text leaves its logarithm little room.
      windows: None for data that are on the device for good. Else `seed -> WindowIterator` of what
        takes the place of `data` in turn: each outer step and each interval between two
        measurements of an evaluation has a window of its own. `data` is then one of them: what
        shapes, sizes and timings are asked of.
      num_steps: length of its episodes where a run of outer-training has several lengths; None for
        the run's own.
      share_told: of its episodes, drawn at random, that tell their length to an optimizer that can
        take it; in the others it has to do without.
    """

    sample: Callable[[Key], TaskParams]
    task: Callable[[TaskParams], Task | StatefulTask]
    data: Data = ()
    weight: float = 1.0
    windows: Callable[[int], WindowIterator] | None = None
    num_steps: int | None = None
    share_told: float = 1.0
