"""Truncation schedules: bounds, means, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outer_train import truncation

NUM_DRAWS = 4096


def _lengths(schedule, outer_step):
    keys = jax.random.split(jax.random.key(1), NUM_DRAWS)
    return np.asarray(
        jax.jit(jax.vmap(schedule.length, in_axes=(0, None)))(keys, jnp.int32(outer_step))
    )


def test_linear_follows_the_paper_with_uniform_jitter():
    schedule = truncation.linear()
    for outer_step, center in ((0, 50), (2500, 5025), (5000, 10_000), (9000, 10_000)):
        lengths = _lengths(schedule, outer_step)
        spread = 0.4 * center / np.sqrt(12)
        assert abs(lengths.mean() - center) < 4 * (spread / np.sqrt(NUM_DRAWS) + 0.01)
        np.testing.assert_allclose(lengths.std(), spread, rtol=0.05)
        assert lengths.min() >= np.floor(0.8 * center)
        assert lengths.max() <= np.ceil(1.2 * center) <= schedule.max_num_steps


def test_log_uniform_covers_each_octave_alike():
    lengths = _lengths(truncation.log_uniform(1, 1023), 0)
    counts = np.histogram(np.log2(lengths + 0.5), bins=np.arange(11))[0]
    assert lengths.min() == 1
    assert lengths.max() <= 1023
    # The first octave holds the integer 1 alone, each of the ten an equal share of log length.
    assert np.abs(counts - NUM_DRAWS / 10).max() < 4.5 * np.sqrt(NUM_DRAWS * 0.1 * 0.9)


def test_constant_is_constant():
    assert set(_lengths(truncation.constant(7), 3)) == {7}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: truncation.constant(0), "num_steps must be at least 1, got 0"),
        (lambda: truncation.linear(100, 50), "start must not be above end"),
        (lambda: truncation.linear(jitter=1.0), "jitter"),
        (lambda: truncation.linear(jitter=np.nan), "jitter"),
        (lambda: truncation.log_uniform(9, 3), "low must not be above high"),
        (lambda: truncation.constant(np.nan), "num_steps must be a whole number"),
        (lambda: truncation.constant(2.5), "num_steps must be a whole number"),
        (
            lambda: truncation.constant(2**31),
            "num_steps must be a whole number of at most 2147483647",
        ),
        (lambda: truncation.linear(end=2_000_000_000), "the longest length, end times 1"),
        (
            lambda: truncation.linear(num_outer_steps=2**31),
            "num_outer_steps must be a whole number",
        ),
        (lambda: truncation.log_uniform(1, 2**31), "high must be a whole number"),
    ],
)
def test_bad_lengths_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lengths_up_to_the_largest_int32():
    """As floats they round up to 2^31, which is no int32.

    A step count of the same size rounds too.
    """
    largest = 2**31 - 1
    for schedule in (
        truncation.linear(largest, largest, jitter=0.0),
        truncation.log_uniform(largest, largest),
    ):
        assert schedule.max_num_steps == largest
        for length in (
            schedule.length(jax.random.key(i), jnp.int32(step))
            for i, step in enumerate((0, largest))
        ):
            assert largest - 256 < int(length) <= largest
    growing = truncation.linear(1, 1_000_001, num_outer_steps=largest, jitter=0.0)
    lengths = [
        int(growing.length(jax.random.key(0), jnp.int32(step))) for step in (0, 2**30, largest)
    ]
    assert lengths == [1, 500_001, 1_000_001]
