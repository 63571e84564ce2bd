"""Digits on a network deep enough for gradients through the episode to explode.

    learned-opt train explosion

The comparison of Metz et al. (arXiv 1810.10180, figures 4 and 8) where it can show: RP and ES
merged, truncations that grow to the whole episode.
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
