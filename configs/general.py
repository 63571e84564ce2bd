"""What `learned_opt.load()` gives:
`general_es`, then a search over how its step depends on tensor and time.

    TFDS_DATA_DIR=... learned-opt search general --out DIR

The weights `general_es` (config of that name) were outer-trained on eleven families by noise-reuse
ES. The search adds two units, a weight decay with a gate first set by hand, to its sixteen, moves
what rate and direction hang on most, and scores whole runs on the tasks below against Adam at six
rates: at the lowest loss, at the end and on the way there. They are families like those of
`general_es`, but most have a sixth or a third of their images to train on: with over half of them,
the digits of outer-training are told apart at a loss of .002 and nothing overfits, as it does on
the digits held out.

The search starts from what one of 29 generations found on such families, and from a gate set by
hand: that one had left its gate all but closed, where a decay that waits and asks for less takes a
third off the lowest loss of deep networks on few images, and costs text and an autoencoder nothing.
From 300 steps on, the gate opens at a gradient of a thirteenth of Adam's scale and lets all through
at a thirtieth.

`learned-opt train general` goes on with outer-training instead; it is not what made the weights.
"""

import dataclasses
import math

from configs import general_es
from configs.base import ClassSubset, CustomFamily, RandomQuadratic, StepSearch

_digits = ClassSubset(
    dataset="digits",
    num_train_classes=7,
    num_classes=5,
    batch_size=32,
    fractions=(0.15, 0.25, 0.25, 0.35),
    weight=1.5,
)
_more = dataclasses.replace(_digits, num_classes=4, fractions=(0.35, 0.2, 0.2, 0.25))
_fashion = dataclasses.replace(
    _digits, dataset="fashion_mnist", image_size=8, num_classes=3, batch_size=64, weight=1.0
)
_mnist1d = dataclasses.replace(
    _digits, dataset="mnist1d", num_classes=3, fractions=(0.55, 0.15, 0.15, 0.15), weight=1.0
)
_text = {"model": "transformer", "length": 24, "batch_size": 8, "width": 16, "text": "library"}

config = dataclasses.replace(
    general_es.config,
    family=_digits,
    extra_families=(
        dataclasses.replace(_more, hidden_sizes=(64,), activation="tanh"),
        dataclasses.replace(_digits, hidden_sizes=(160,)),
        dataclasses.replace(_digits, hidden_sizes=(32, 32, 32), activation="silu"),
        dataclasses.replace(_digits, hidden_sizes=(24, 24, 24)),
        dataclasses.replace(_more, network="cnn", channels=(8, 16), weight=1.0),
        dataclasses.replace(_mnist1d, hidden_sizes=(64,)),
        dataclasses.replace(_fashion, hidden_sizes=(64,), activation="gelu"),
        dataclasses.replace(
            _fashion, image_size=14, network="cnn", channels=(8, 8), batch_size=16, weight=1.5
        ),
        CustomFamily(
            "tasks.images:tfds_autoencoder_family",
            kwargs={"width": 24, "bottleneck": 6},
            weight=3.0,
        ),
        CustomFamily("tasks:char_family", kwargs=_text, weight=8.0),
        RandomQuadratic(dim=30, weight=0.1),
    ),
    # Without a bound, one gradient out of the blue made a step 3,000 times the others.
    optimizer=dataclasses.replace(general_es.config.optimizer, input_bound=4.0),
    init_theta="general_es",
    search=StepSearch(
        num_generations=24,
        population=44,
        num_steps=1000,
        added={
            "parameter": (-0.149,),
            "adam_gradient": (0.388,),
            "adam_momentum": (0.795, -0.14, -0.061, 0.251),
            "log_parameter": (-0.091,),
            "log_adam_gradient": (0.229,),
            "log_adam_momentum": (0.217, -0.038, -0.033, -0.036),
            "times": (-0.026, 0.015, -0.023, 0.111, 0.014, -0.001),
        },
        added_bias=0.099,
        decay_log_slope=math.log(0.1),
        gate_bias=-9.5,
        gate={"log_adam_gradient": (-5.0,), "times": (0.0, 0.0, 0.0, 3.0)},
    ),
)
