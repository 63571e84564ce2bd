"""Arguments that a float32 does not hold are refused at construction, as those that are no numbers
are: one table.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import AdamStart

NOT_FINITE = (math.nan, math.inf, -math.inf, np.float32(math.nan), jnp.float32(math.inf))
NO_NUMBERS = ("0.1", 1j, [0.1, 0.2], True, 10**400, b"1")
DECAYS = [(x,) for x in (*NOT_FINITE, *NO_NUMBERS, -0.1, 1.0, 1.5, 1 - 1e-16)]
POSITIVE = (*NOT_FINITE, *NO_NUMBERS, 0.0, -1.0, 1e-50, 1e300)
FACTORS = (*NOT_FINITE, *NO_NUMBERS, 1e39, -1e39, 1e-60)
SIZES = [(x,) for x in (*NOT_FINITE, *NO_NUMBERS, 0, -1, 2.5, 2**40)]
NO_SEQUENCES = (0.5, 3, "abc", [[0.5]])

M, A, ORTHOGONAL = learned_opt.mlp, learned_opt.adafactor_mlp, learned_opt.orthogonal_mlp
FACTORIES = (M, A, ORTHOGONAL)
BAD: list[tuple[Callable, str, tuple]] = [
    *((f, "momentum_decays", (*DECAYS, *NO_SEQUENCES)) for f in FACTORIES),
    *((f, "second_moment_decays", (*DECAYS, *NO_SEQUENCES)) for f in FACTORIES),
    (A, "factored_decays", (*DECAYS, *NO_SEQUENCES)),
    *((f, "hidden_sizes", (*SIZES, *NO_SEQUENCES)) for f in FACTORIES),
    *((f, "timescales", (*((x,) for x in POSITIVE), *NO_SEQUENCES)) for f in (M, A)),
    *((f, "features", NO_SEQUENCES) for f in FACTORIES),
    *((f, "step_multiplier", FACTORS) for f in (M, A)),
    *((f, "output_init_scale", FACTORS) for f in (M, A)),
    *((f, "exp_multiplier", FACTORS) for f in FACTORIES),
    (M, "input_bound", (math.nan, -math.inf, *NO_NUMBERS, 0.0, -1.0, 1e-60)),
    (ORTHOGONAL, "rates", (*((0.1, x, 0.1, 0.1) for x in POSITIVE), *NO_SEQUENCES, (0.1,) * 3)),
    (AdamStart, "learning_rate", (*POSITIVE, None)),
    (partial(AdamStart, 0.1), "weight_decay", (*FACTORS[:-1], None)),
    (partial(AdamStart, 0.1), "exponents", [(x,) for x in FACTORS[:-1]]),
    (partial(AdamStart, 0.1), "time_exponents", [(x,) for x in FACTORS[:-1]]),
]


@pytest.mark.parametrize(("factory", "name", "values"), BAD)
def test_arguments_out_of_range_are_refused_at_construction(factory, name, values):
    for value in values:
        with pytest.raises(ValueError, match=name):
            factory(**{name: value})


@pytest.mark.parametrize(
    ("start", "arguments"),
    [
        ({"learning_rate": 1e30}, {"step_multiplier": 1e-30}),
        ({"learning_rate": 1e-30}, {"step_multiplier": -1e30}),
        ({"learning_rate": 0.1, "time_exponents": (1e30,) * 9}, {"exp_multiplier": 1e-30}),
    ],
)
def test_a_start_whose_weights_float32_does_not_hold(start, arguments):
    with pytest.raises(ValueError, match="start: learning_rate over step_multiplier"):
        learned_opt.mlp(start=start, **arguments)


@pytest.mark.parametrize("num_steps", ["100", [1, 2], math.nan, -1, 0, True, 1j])
def test_lengths_of_a_training_that_are_none(num_steps):
    optimizer = learned_opt.orthogonal_mlp()
    theta = optimizer.init(jax.random.key(0))
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        optimizer.optimizer(theta, num_steps=num_steps)


@pytest.mark.parametrize("value", [1e-30, 1e30])
def test_values_at_the_ends_of_the_ranges_give_finite_steps(value):
    optimizers = [
        learned_opt.mlp((4,), timescales=(value,)),
        learned_opt.mlp((4,), input_bound=value),
        learned_opt.orthogonal_mlp((4,), rates=(value,) * 4),
        learned_opt.mlp((4,), start=AdamStart(value), step_multiplier=value),
    ]
    params = {"w": jnp.ones((2, 3))}
    for optimizer in optimizers:
        theta = optimizer.init(jax.random.key(0))
        opt = optimizer.optimizer(theta)
        updates, _ = jax.jit(opt.update)(params, opt.init(params), params)
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((theta, updates)))
