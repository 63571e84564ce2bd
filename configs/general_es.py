"""Eleven families at once, from a rule of tensor and time:
what `general`, the default of `load()`, starts from.

    TFDS_DATA_DIR=... learned-opt train general_es

Classifiers of 3 to 5 of 7 classes of digits (MLP 32, MLP 3 x 32, CNN 8-16), MNIST-1D (MLP 32-32,
MLP 64) and Fashion-MNIST (MLP 64 at 8x8, MLP 32 on a thirtieth of the images, CNN 8-8 at 14x14), in
four activations and batches of 16 to 64; an autoencoder of Fashion-MNIST at 8x8; a transformer of
width 16 on the source of Python's library; quadratics in 30 dimensions. Episodes of 1,000 inner
steps on validation loss; the outer loss is the mean of log(0.03 + loss), in which halving a low
loss counts nearly as much as halving a high one. Weights make up for what the logarithm hides and
shows: text hardly gains a tenth, quadratics gain without end, and where a network fits all its data
the gradient is mostly noise. Noise-reuse ES with 32 pairs a family, truncations of 25.

The fresh theta makes Adam's steps at a rate

    .02 rms(w)^.5 rms(g)^.3 rms(m_.9)^-.6 rms(m_.99)^.14 rms(m_.999)^.14

that falls after some hundred steps, where w is the tensor, g and m its gradient and debiased
momenta over Adam's scale. Its numbers come from a search by the cross-entropy method
(`learned-opt search general_es`; for this run its forerunner, five generations of 40 samples of
1,000 steps on families like these). What is learned is when to depart from that rule.
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
    RandomQuadratic,
    StartAsAdam,
    StartSearch,
    TrainConfig,
)

_digits = ClassSubset(
    dataset="digits",
    num_train_classes=7,
    num_classes=3,
    batch_size=32,
    fractions=(0.55, 0.15, 0.15, 0.15),
)
_larger = dataclasses.replace(_digits, num_classes=5, batch_size=64)
_fashion = dataclasses.replace(_larger, dataset="fashion_mnist")
_text = {"model": "transformer", "length": 16, "batch_size": 4, "width": 16, "text": "library"}

config = TrainConfig(
    family=dataclasses.replace(_digits, num_classes=5, weight=0.5),
    extra_families=(
        dataclasses.replace(_larger, hidden_sizes=(32, 32, 32), activation="silu", weight=0.3),
        dataclasses.replace(
            _larger, dataset="mnist1d", hidden_sizes=(32, 32), activation="tanh", num_classes=4
        ),
        dataclasses.replace(_digits, dataset="mnist1d", hidden_sizes=(64,)),
        dataclasses.replace(_fashion, image_size=8, hidden_sizes=(64,), activation="gelu"),
        dataclasses.replace(
            _fashion, image_size=8, batch_size=32, fractions=(0.02, 0.18, 0.4, 0.4)
        ),
        dataclasses.replace(_digits, network="cnn", channels=(8, 16), num_classes=4),
        dataclasses.replace(
            _fashion, image_size=14, network="cnn", channels=(8, 8), num_classes=4, batch_size=16
        ),
        CustomFamily(
            "tasks.images:tfds_autoencoder_family",
            kwargs={"width": 24, "bottleneck": 6},
            weight=2.0,
        ),
        CustomFamily("tasks:char_family", kwargs=_text, weight=4.0),
        RandomQuadratic(dim=30, weight=0.3),
    ),
    optimizer=Mlp(
        hidden_sizes=(16,),
        momentum_decays=(0.5, 0.9, 0.99, 0.999),
        # No timescale beyond the episode: what the optimizer has never seen move,
        # it could not follow on longer runs.
        timescales=(3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
        features=(
            "parameter",
            "adam_gradient",
            "adam_momentum",
            "log_parameter",
            "log_adam_gradient",
            "log_adam_momentum",
        ),
        step_multiplier=2e-3,
        exp_multiplier=1.0,
        output_init_scale=0.01,
        start=StartAsAdam(
            learning_rate=0.02,
            exponents=(0.5, 0.3, 0.0, -0.6, 0.14, 0.14),
            time_exponents=(0.035, 0.035, 0.035, 0.035, -0.34, -0.34),
            weight_decay=0.018,
        ),
    ),
    problem=InnerProblem(num_steps=1000, reduction="mean_log", log_offset=0.03),
    estimator=NoiseReuseES(num_pairs=32, std=0.02),
    truncation=Constant(num_steps=25),
    outer_optimizer=OuterOptimizer(learning_rate=2e-3, clip_at=1.0),
    held_out=HeldOut(num_tasks=16, num_steps=1000),
    search=StartSearch(num_generations=6, population=44, num_steps=1000),
    num_outer_steps=2800,
    checkpoint_every=100,
)
