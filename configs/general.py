"""Four families at once, and an outer loss that counts the end of training: towards an optimizer for other tasks.

    TFDS_DATA_DIR=... learned-opt train general --num-devices 1

Classifiers of 5 of 7 classes of digits (MLP 32, relu; CNN 8-16, relu), MNIST-1D (MLP 32-32, tanh) and Fashion-MNIST at
8x8 (MLP 64, gelu), episodes of 2,000 inner steps on validation loss. Persistent ES with 16 pairs a family, truncations
of 40; the outer loss is the mean of log(0.1 + loss), in which halving a low loss counts as much as halving a high one.

Cost: 20.5 million inner steps, 38 minutes on one core (8,800 a second). It does not ship: it is quick early on and
stays too noisy late; `docs/outer_training_log.md` has its numbers on the suite `heldout`.
"""

import dataclasses

from configs.base import ClassSubset, Constant, HeldOut, InnerProblem, Mlp, OuterOptimizer, PersistentES, TrainConfig

_digits = ClassSubset(
    dataset="digits", num_train_classes=7, num_classes=5, batch_size=64, fractions=(0.55, 0.15, 0.15, 0.15)
)

config = TrainConfig(
    family=_digits,
    extra_families=(
        dataclasses.replace(_digits, dataset="mnist1d", hidden_sizes=(32, 32), activation="tanh"),
        dataclasses.replace(_digits, dataset="fashion_mnist", image_size=8, hidden_sizes=(64,), activation="gelu"),
        dataclasses.replace(_digits, network="cnn", channels=(8, 16)),
    ),
    # No timescale beyond the episode: what the optimizer has never seen move, it could not follow on longer runs.
    optimizer=Mlp(timescales=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)),
    problem=InnerProblem(num_steps=2000, reduction="mean_log"),
    estimator=PersistentES(num_pairs=16, std=0.01),
    truncation=Constant(num_steps=40),
    outer_optimizer=OuterOptimizer(learning_rate=3e-3, clip_at=1.0),
    held_out=HeldOut(num_tasks=16, num_steps=1000),
    num_outer_steps=4000,
    checkpoint_every=250,
)
