"""Random quadratics: a whole run in seconds, to try options on.

    learned-opt train quadratic

Steps may be a hundred times their usual size, since the minima lie a distance of order one away.
Expected over the first 100 steps of 32 held-out quadratics: learned 0.077, untrained 2.8,
Adam(1e-3) 2.0, tuned Adam 0.065.
"""

from configs.base import (
    Constant,
    HeldOut,
    InnerProblem,
    Mlp,
    OuterOptimizer,
    PersistentES,
    RandomQuadratic,
    TrainConfig,
)

config = TrainConfig(
    family=RandomQuadratic(dim=10),
    optimizer=Mlp(step_multiplier=0.1),
    problem=InnerProblem(num_steps=100),
    estimator=PersistentES(num_pairs=16, std=0.01),
    truncation=Constant(num_steps=10),
    outer_optimizer=OuterOptimizer(learning_rate=3e-3, clip_at=1.0),
    held_out=HeldOut(num_tasks=32, num_steps=100),
    num_outer_steps=500,
    checkpoint_every=100,
)
