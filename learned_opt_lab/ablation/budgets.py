"""What a run of outer-training spends, and how long it goes on to spend a given total.

A schedule is stretched with the run: what took a share of its outer steps takes the same share.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from configs import base
from configs.base import TrainConfig


def checked_lengths(text: str, episode: int) -> list[int]:
    """The fixed truncations, ascending, none above the episode.

    Raises `ValueError` for what is no positive number of steps and no share.
    """
    lengths = sorted({min(length, episode) for length in given_lengths(text, episode)})
    if lengths[0] < 1:
        raise ValueError(f"lengths must be at least 1, got {text!r}")
    return lengths


def given_lengths(text: str, episode: int) -> list[int]:
    """Truncations, ascending, of numbers of steps and shares of the episode such as `10%`.

    Raises `ValueError` for what is neither.
    """
    try:
        return sorted({_length(part.strip(), episode) for part in text.split(",")})
    except (ValueError, OverflowError):
        raise ValueError(
            "lengths must be whole numbers, or shares such as 10%, with commas between, got "
            f"{text!r}"
        ) from None


def _length(text: str, episode: int) -> int:
    if not text.endswith("%"):
        return int(text)
    return round(float(text[:-1]) / 100 * episode)


def planned_lengths(truncation: base.Truncation, num_outer_steps: int) -> NDArray:
    """Expected truncation lengths of a run, float `[outer steps]`, its jitter left out.

    Raises:
      ValueError: for a kind whose lengths are not known here.
    """
    if isinstance(truncation, base.Constant):
        return np.full(num_outer_steps, float(truncation.num_steps))
    if isinstance(truncation, base.Linear):
        progress = np.minimum(np.arange(num_outer_steps) / truncation.num_outer_steps, 1)
        return truncation.start + (truncation.end - truncation.start) * progress
    if isinstance(truncation, base.LogUniform):
        low, high = truncation.low, truncation.high
        mean = low if low == high else (high - low) / math.log(high / low)
        return np.full(num_outer_steps, float(mean))
    raise ValueError(
        f"ablate cannot tell the inner steps of truncation:{truncation.word}; it knows constant, "
        "linear and log-uniform"
    )


def stretched(config: TrainConfig, num_outer_steps: int) -> TrainConfig:
    """The same run in another number of outer steps."""
    share = num_outer_steps / config.num_outer_steps
    truncation, outer = config.truncation, config.outer_optimizer
    if isinstance(truncation, base.Linear):
        growth = max(1, round(truncation.num_outer_steps * share))
        truncation = dataclasses.replace(truncation, num_outer_steps=growth)
    if outer.num_warmup_steps:
        warmup = min(round(outer.num_warmup_steps * share), num_outer_steps - 1)
        outer = dataclasses.replace(outer, num_warmup_steps=warmup)
    return dataclasses.replace(
        config, truncation=truncation, outer_optimizer=outer, num_outer_steps=num_outer_steps
    )


def spent(config: TrainConfig) -> int:
    """Expected inner steps of a run: all families, particles and sides of a pair."""
    estimator = config.estimator
    pairs = getattr(estimator, "num_pairs", None)
    count, sides = pairs or estimator.num_particles, 2 if pairs else 1
    families = (config.family, *config.extra_families)
    episodes = [family.num_steps or config.problem.num_steps for family in families]
    if not type(estimator).truncates:
        return sides * count * config.num_outer_steps * sum(episodes)
    lengths = planned_lengths(config.truncation, config.num_outer_steps)
    staggered = getattr(estimator, "stagger", False)
    return sides * sum(live_steps(lengths, count, episode, staggered) for episode in episodes)


def live_steps(lengths: NDArray, count: int, episode: int, staggered: bool = True) -> int:
    """Live inner steps of particles that wait at an episode's end for the next truncation.

    Args:
      lengths: of the truncations, `[outer steps]`.
      count: particles, or pairs, of which one side is counted.
      episode: inner steps of an episode.
      staggered: whether particles start evenly spread over the episode.
    """
    start = (np.arange(count) + 0.5) / count * episode * staggered
    step = start.astype(np.int64)
    lengths = np.minimum(np.round(lengths).astype(np.int64), episode)
    if len(set(lengths.tolist())) == 1:
        return int(_of_one_length(step, int(lengths[0]), len(lengths), episode).sum())
    total = 0
    for length in lengths:
        live = np.minimum(length, episode - step)
        total += int(live.sum())
        step = np.where(step + live >= episode, 0, step + live)
    return total


def _of_one_length(step: NDArray, length: int, number: int, episode: int) -> NDArray:
    """Of each particle, in `number` truncations: of its first episode, whole ones and a rest."""
    first = -(-(episode - step) // length)
    whole, rest = np.divmod(np.maximum(number - first, 0), -(-episode // length))
    begun = np.minimum(np.minimum(number, first) * length, episode - step)
    return begun + whole * episode + np.minimum(rest * length, episode)


def with_budget(config: TrainConfig, num_inner_steps: int) -> TrainConfig:
    """The run in as many outer steps as come closest to a total of inner steps.

    Args:
      config: its schedules are stretched.
      num_inner_steps: of all families, particles and both sides of a pair.

    Raises:
      ValueError: where not even two outer steps fit.
    """
    of = lambda number: spent(stretched(config, number))
    low, high = 0, 1
    while of(high) < num_inner_steps:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of(middle) < num_inner_steps else (low, middle)
    best = low if low and num_inner_steps - of(low) < of(high) - num_inner_steps else high
    if best < 2:
        raise ValueError(
            f"{num_inner_steps} inner steps are not enough for two outer steps, of "
            f"{of(1)} each; give more, fewer particles or shorter --lengths"
        )
    return stretched(config, best)
