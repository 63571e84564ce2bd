"""The method of Metz et al. (arXiv 1810.10180) in a size that one accelerator finishes in an hour
or two: their CNNs on CIFAR-100, 70 classes for outer-training and 30 held out.

    TFDS_DATA_DIR=... learned-opt train metz2019_cifar100

Episodes of 2,000 inner steps, truncations that grow from 20 to the whole of it over 1,000 outer
steps. The set must have been prepared by tensorflow-datasets in array_record form; if it is not,
the command says how.
"""

from configs.base import (
    ClassSubset,
    HeldOut,
    InnerProblem,
    Linear,
    Merged,
    Mlp,
    OuterOptimizer,
    TrainConfig,
)

config = TrainConfig(
    family=ClassSubset(
        dataset="cifar100",
        num_train_classes=70,
        num_classes=10,
        network="cnn",
        channels=(32, 32, 32),
        batch_size=128,
    ),
    optimizer=Mlp(preset="metz2019"),
    problem=InnerProblem(num_steps=2000, num_loss_batches=5),
    estimator=Merged(num_pairs=8, std=0.01, chunk_size=50),
    truncation=Linear(start=20, end=2000, num_outer_steps=1000, jitter=0.2),
    outer_optimizer=OuterOptimizer(
        learning_rate=3e-3, b1=0.5, decay="cosine", clip="value", clip_at=0.1
    ),
    held_out=HeldOut(num_tasks=100, num_steps=2000),
    num_outer_steps=1000,
    checkpoint_every=50,
)
