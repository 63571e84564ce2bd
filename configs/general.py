"""Six families at once, from a fresh theta that is Adam: the optimizer that `learned_opt.load()` gives.

    TFDS_DATA_DIR=... learned-opt train general --num-devices 1

Classifiers of 3 to 5 of 7 classes of digits (MLP 32, MLP 3 x 32, CNN 8-16), MNIST-1D (MLP 32-32) and Fashion-MNIST
at 8x8 (MLP 64), in four activations and batches of 32 and 64, and an autoencoder of Fashion-MNIST at 8x8. Episodes of
1,000 inner steps on validation loss; the outer loss is the mean of log(0.03 + loss), in which halving a low loss counts
nearly as much as halving a high one. Noise-reuse ES with 32 pairs a family, truncations of 25. The fresh theta makes
Adam's steps at rate 3e-3, so that what is learned is when to depart from them.

Cost: 38 million inner steps, an hour on one core (11,500 a second). `docs/outer_training_log.md` has its numbers on the
suite `heldout`, and those of what was tried before.
"""

import dataclasses

from configs.base import (
    ClassSubset,
    Constant,
    CustomFamily,
    HeldOut,
    InnerProblem,
    Mlp,
    NoiseReuseES,
    OuterOptimizer,
    TrainConfig,
)

_digits = ClassSubset(
    dataset="digits", num_train_classes=7, num_classes=3, batch_size=32, fractions=(0.55, 0.15, 0.15, 0.15)
)
_larger = dataclasses.replace(_digits, num_classes=5, batch_size=64)

config = TrainConfig(
    family=_digits,
    extra_families=(
        dataclasses.replace(_larger, hidden_sizes=(32, 32, 32), activation="silu"),
        dataclasses.replace(_larger, dataset="mnist1d", hidden_sizes=(32, 32), activation="tanh", num_classes=4),
        dataclasses.replace(_larger, dataset="fashion_mnist", image_size=8, hidden_sizes=(64,), activation="gelu"),
        dataclasses.replace(_digits, network="cnn", channels=(8, 16), num_classes=4),
        CustomFamily("tasks.autoencoder:tfds_autoencoder_family", kwargs={"width": 24, "bottleneck": 6}),
    ),
    optimizer=Mlp(
        hidden_sizes=(16,),
        momentum_decays=(0.5, 0.9, 0.99, 0.999),
        # No timescale beyond the episode: what the optimizer has never seen move, it could not follow on longer runs.
        timescales=(3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
        step_multiplier=1e-2,
        exp_multiplier=1.0,
        output_init_scale=0.01,
        adam_learning_rate=3e-3,
    ),
    problem=InnerProblem(num_steps=1000, reduction="mean_log", log_offset=0.03),
    estimator=NoiseReuseES(num_pairs=32, std=0.02),
    truncation=Constant(num_steps=25),
    outer_optimizer=OuterOptimizer(learning_rate=1e-3, clip_at=1.0),
    held_out=HeldOut(num_tasks=16, num_steps=1000),
    num_outer_steps=4000,
    checkpoint_every=250,
)
