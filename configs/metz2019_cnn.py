"""The run of Metz et al. (arXiv 1810.10180):
3-layer CNNs on 10 classes of 32x32 ImageNet, merged RP and ES.

    TFDS_DATA_DIR=... learned-opt train metz2019_cnn

700 classes for outer-training and 300 held out; truncations grow from 50 to 10,000 inner steps over
the first half of 10,000 outer steps. Meant for accelerators; `metz2019_cifar100` is what one of
them finishes in an hour or two, `metz2019_small` what two cores do.

Cost: 9e9 inner steps, of which the growth takes 3e9. Memory of an outer step: about 45 GB at
`estimator.chunk_size` 50.

Expected: the paper prints no number. Its figure 6 has a mean loss over 10,000 inner steps below
that of Adam with eight hyperparameters, tuned over the tasks, on most of 100 held-out tasks.

The outer rate and Adam's first decay are those of the paper's code, whose run's own values were
never released. Adam moves a weight by about the rate in an outer step, so that 10,000 of them move
it by at most 0.1, where fresh weights have a root mean square of 0.25 in the hidden layer.
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
