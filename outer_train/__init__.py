"""How theta is trained: inner problems, unrolls, gradient estimators, the outer loop."""

from outer_train import checks, devices, estimators, gradient_quality, memory, truncation
from outer_train._unroll import unroll
from outer_train.devices import PARTICLES, compiler_options, particle_mesh, use_cpu_devices
from outer_train.guard import clip_by_global_norm
from outer_train.problem import InnerProblem as InnerProblem
from outer_train.problem import InnerState, UnrolledSystem, inner_problem, late_weight
from outer_train.side_by_side import SeedsResult, outer_step_of_seeds, train_seeds
from outer_train.step import OuterState, OuterStep, compiled_ahead, outer_step, traced_ahead

__all__ = [
    "PARTICLES",
    "InnerState",
    "OuterState",
    "OuterStep",
    "SeedsResult",
    "UnrolledSystem",
    "checks",
    "clip_by_global_norm",
    "compiled_ahead",
    "compiler_options",
    "devices",
    "estimators",
    "gradient_quality",
    "inner_problem",
    "late_weight",
    "memory",
    "outer_step",
    "outer_step_of_seeds",
    "particle_mesh",
    "traced_ahead",
    "train_seeds",
    "truncation",
    "unroll",
    "use_cpu_devices",
]
