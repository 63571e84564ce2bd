"""One optimizer to compare with: how it is made, what it is untuned, and what is searched of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from learned_opt import LearnedOptimizer, Theta
from learned_opt_lab.evaluation.rivals.schedules import SCHEDULES, scheduled
from learned_opt_lab.evaluation.rivals.search_space import Axis, Choice, LogUniform, SearchSpace

COMPLEMENT = "one_minus_"
"""Starts the name of a hyperparameter that is searched as one minus what the factory takes."""
WITH_SCHEDULE: dict[str, Axis] = {
    "schedule": Choice(SCHEDULES),
    "warmup": Choice((0.0, 0.02, 0.05, 0.1)),
}
NO_SCHEDULE = {"schedule": SCHEDULES[0], "warmup": 0.0}


class Rival(NamedTuple):
    """An optimizer and its search space, one row of a table.

    Attributes:
      factory: takes its hyperparameters by name, possibly traced, and gives an Optax
        transformation. `learning_rate` is an Optax schedule where the space has a `schedule` or a
        `warmup`.
      space: default and axes. `one_minus_b1` is given to the factory as `b1`.
      source: where the default is published.
      description: one line for reports.
      extra_args: what its `update` is given, of `learned_opt_lab.evaluation.sweep.EXTRA_ARGS`.
      takes_num_steps: whether the factory asks for `num_steps`, the length of the run.
      fingerprint: of what its code and its space do not tell, such as a file of weights.
    """

    factory: Callable[..., optax.GradientTransformation]
    space: SearchSpace
    source: str
    description: str
    extra_args: tuple[str, ...] = ()
    takes_num_steps: bool = False
    fingerprint: str = ""

    def optimizer(
        self, hyperparameters: Mapping[str, Array], num_steps: int
    ) -> optax.GradientTransformation:
        """The optimizer of one configuration for a run of `num_steps` steps.

        Args:
          hyperparameters: of every axis of the space, words as their indices.
          num_steps: inner steps of the run.
        """
        given: dict[str, Any] = {
            name.removeprefix(COMPLEMENT): 1.0 - value if name.startswith(COMPLEMENT) else value
            for name, value in hyperparameters.items()
        }
        kind, warmup = given.pop("schedule", None), given.pop("warmup", None)
        if kind is not None or warmup is not None:
            kind = 0 if kind is None else self._kinds()[jnp.asarray(kind, jnp.int32)]
            warmup = 0.0 if warmup is None else warmup
            given["learning_rate"] = scheduled(given["learning_rate"], kind, warmup, num_steps)
        if self.takes_num_steps:
            given["num_steps"] = num_steps
        return self.factory(**given)

    def _kinds(self) -> Array:
        """Index of the space's schedules -> that in `SCHEDULES`: a space may have some of them."""
        return jnp.asarray([SCHEDULES.index(word) for word in self.space.words["schedule"]])

    def with_schedule(self, name: str) -> "Rival":
        """The same with another schedule in its default."""
        default = {**self.space.default, "schedule": name}
        return self._replace(space=self.space._replace(default=default))


def with_rate_and_decay(
    optimizer: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule = 1.0,
    weight_decay: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """`w <- w + learning_rate(t) (update - weight_decay w)`: what `learned_opt.load` puts around a
    learned optimizer, of Optax's parts, so that both numbers may be traced.
    """
    rate = learning_rate if callable(learning_rate) else lambda count: learning_rate
    around = (optax.add_decayed_weights(-weight_decay), optax.scale_by_schedule(rate))
    return optax.with_extra_args_support(optax.chain(optimizer, *around))


RATE_AND_DECAY = SearchSpace(
    {"learning_rate": 1.0, "weight_decay": 0.0, **NO_SCHEDULE},
    {
        "learning_rate": LogUniform(0.1, 10.0),
        "weight_decay": LogUniform(1e-7, 1e-2),
        **WITH_SCHEDULE,
    },
)
"""Of an optimizer that has no hyperparameters of its own: a learned one."""


def learned_rival(
    optimizer: LearnedOptimizer, theta: Theta, description: str, fingerprint: str = ""
) -> Rival:
    """A learned optimizer as a rival: untuned it is itself; what is searched is put around it.

    Args:
      optimizer: told the number of steps if it is one that takes it.
      theta: its weights.
      description: one line for reports.
      fingerprint: of the weights.
    """

    def factory(num_steps=None, **around):
        made = optimizer.fastest if num_steps is None else optimizer.within(num_steps)
        return with_rate_and_decay(made(theta), **around)

    return Rival(
        factory,
        RATE_AND_DECAY,
        "its theta",
        description,
        takes_num_steps=optimizer.takes_num_steps,
        fingerprint=fingerprint,
    )
