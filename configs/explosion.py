r"""Digits on a network deep enough for gradients through the episode to explode: where the method
of Metz et al. (arXiv 1810.10180) can show what its parts are worth.

    learned-opt train explosion
    learned-opt ablate explosion --lengths 0.1%,1%,10%,100% --num-seeds 5 --num-other-seeds 3 \
        --outer-rates 0.001 0.003 0.01 --seeds-at-once 1 --out DIR

An MLP of 64-16-16-16-5 on five of seven digits in batches of 16; RP and ES merged, truncations that
grow from 10 inner steps to the whole episode of 1,000. The second command is figures 4 and 8 of the
paper, and goes on where it was stopped.

Cost: 1.7 million inner steps that count, and 0.7 million in which a particle waits for the end of a
truncation.
"""

from configs.base import (
    ClassSubset,
    InnerProblem,
    Linear,
    Merged,
    OuterOptimizer,
    TrainConfig,
)

config = TrainConfig(
    family=ClassSubset(
        dataset="digits",
        num_train_classes=7,
        num_classes=5,
        hidden_sizes=(16, 16, 16),
        batch_size=16,
        fractions=(0.55, 0.15, 0.15, 0.15),
    ),
    problem=InnerProblem(num_steps=1000),
    estimator=Merged(num_pairs=4, std=0.01, chunk_size=50),
    truncation=Linear(start=10, end=1000, num_outer_steps=600, jitter=0.2),
    outer_optimizer=OuterOptimizer(learning_rate=3e-3, clip="value", clip_at=0.1),
    num_outer_steps=600,
    checkpoint_every=100,
)
