"""From the configs of an ablation's variants to what is run; the data is read once."""

from typing import Any

from configs.base import Family, TrainConfig
from learned_opt_lab.ablation.runs import Problem, Variant
from learned_opt_lab.ablation.variants import Ablated
from learned_opt_lab.runs import build as builder
from learned_opt_lab.runs.config_json import to_json
from learned_opt_lab.runs.families import HELD_OUT, scored_on
from learned_opt_lab.runs.optimizer import build_optimizer
from outer_train import devices, outer_step_of_seeds
from tasks import TaskFamily


class Maker:
    """Makes variants of one config.

    Attributes:
      problem: the families of all of them.
    """

    problem: Problem

    def __init__(self, config: TrainConfig, num_devices: int | None):
        self._built: dict[str, tuple[TaskFamily, TaskFamily]] = {}
        held_out = self._family(config.family)[1] if scored_on(config) == HELD_OUT else None
        self.problem = Problem(self._families(config), held_out)
        self._num_devices = num_devices
        self._optimizers: dict[str, Any] = {}

    def __call__(self, name: str, ablated: Ablated, **more: Any) -> Variant:
        """The variant, ready to run.

        Args:
          name: of its folder.
          ablated: its config.
          **more: further fields of `Variant`.
        """
        config = ablated.config
        builder.check_numbers(config)
        # One object for equal configs: those share the program that evaluates.
        key = repr(config.optimizer)
        if key not in self._optimizers:
            self._optimizers[key] = build_optimizer(config.optimizer)
        optimizer, *saved_as = self._optimizers[key]
        schedule = builder.build_truncation(config)
        outer_optimizer = builder.build_outer_optimizer(
            config.outer_optimizer, config.num_outer_steps
        )
        families = self._families(config)
        mesh = devices.particle_mesh(builder.num_particles(config.estimator), self._num_devices)
        over_mesh = {"axis_name": devices.PARTICLES}
        estimators = [
            builder.build_estimator(config, family, optimizer, schedule, **over_mesh)
            for family in families
        ]

        def make_step(seeds):
            return outer_step_of_seeds(
                estimators, outer_optimizer, schedule, mesh, seeds, families=families
            )

        return Variant(
            name,
            ablated.label,
            to_json(config),
            optimizer,
            config.num_outer_steps,
            families,
            make_step,
            ablated.group,
            outer_rate=config.outer_optimizer.learning_rate,
            saved_as=tuple(saved_as),
            **more,
        )

    def _families(self, config: TrainConfig) -> tuple[TaskFamily, ...]:
        return tuple(self._family(each)[0] for each in (config.family, *config.extra_families))

    def _family(self, family: Family) -> tuple[TaskFamily, TaskFamily]:
        """The family and its held-out one; equal configs are one object."""
        key = repr(family)
        if key not in self._built:
            self._built[key] = builder.build_family(family)
        return self._built[key]
