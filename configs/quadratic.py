"""Random quadratics: a whole run in seconds, to try options on.

learned-opt train quadratic
"""

from configs.base import Constant, HeldOut, InnerProblem, OuterOptimizer, PersistentES, RandomQuadratic, TrainConfig

config = TrainConfig(
    family=RandomQuadratic(dim=10),
    problem=InnerProblem(num_steps=100),
    estimator=PersistentES(num_pairs=16, std=0.01),
    truncation=Constant(num_steps=10),
    outer_optimizer=OuterOptimizer(learning_rate=3e-3, clip_at=1.0),
    held_out=HeldOut(num_tasks=32, num_steps=100),
    num_outer_steps=200,
    checkpoint_every=50,
)
