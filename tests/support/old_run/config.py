from configs.base import (
    Constant,
    CustomFamily,
    HeldOut,
    InnerProblem,
    Mlp,
    OuterOptimizer,
    PersistentES,
    TrainConfig,
)

config = TrainConfig(
    family=CustomFamily("tasks.random_quadratic:random_quadratic_family", kwargs={"dim": 3}),
    optimizer=Mlp(hidden_sizes=(4,)),
    problem=InnerProblem(num_steps=10),
    estimator=PersistentES(num_pairs=2),
    truncation=Constant(num_steps=5),
    outer_optimizer=OuterOptimizer(learning_rate=3e-3),
    held_out=HeldOut(num_tasks=2, num_steps=5),
    num_outer_steps=400,
    checkpoint_every=2,
    keep_checkpoints=1,
)
