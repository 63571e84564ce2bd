"""How theta is trained: inner problems, unrolls, gradient estimators, the outer loop."""

from outer_train import estimators, truncation
from outer_train.devices import PARTICLES, particle_mesh, use_cpu_devices
from outer_train.problem import InnerProblem, InnerState, inner_problem
from outer_train.step import OuterState, OuterStep, outer_step

__all__ = [
    "PARTICLES",
    "InnerProblem",
    "InnerState",
    "OuterState",
    "OuterStep",
    "estimators",
    "inner_problem",
    "outer_step",
    "particle_mesh",
    "truncation",
    "use_cpu_devices",
]
