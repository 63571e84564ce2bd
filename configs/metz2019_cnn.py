"""The run of Metz et al. (arXiv 1810.10180):
3-layer CNNs on 10 classes of 32x32 ImageNet, merged RP and ES.

    TFDS_DATA_DIR=... learned-opt train metz2019_cnn

700 classes for outer-training and 300 held out; truncations grow from 50 to 10,000 inner steps over
5,000 outer steps. Meant for accelerators. The outer rate and Adam's first decay are those of the
paper's code.
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
        dataset="imagenet_resized/32x32",
        num_train_classes=700,
        num_classes=10,
        network="cnn",
        channels=(32, 32, 32),
        batch_size=128,
    ),
    optimizer=Mlp(preset="metz2019"),
    problem=InnerProblem(num_steps=10_000, loss_clip=10.0, num_loss_batches=5),
    estimator=Merged(num_pairs=64, std=0.01, chunk_size=50),
    truncation=Linear(start=50, end=10_000, num_outer_steps=5_000, jitter=0.2),
    outer_optimizer=OuterOptimizer(
        learning_rate=1e-5, b1=0.5, decay="none", clip="value", clip_at=0.1
    ),
    held_out=HeldOut(num_tasks=32, num_steps=1000),
    num_outer_steps=10_000,
    checkpoint_every=100,
)
