"""What workers and learner send each other:
a fixed header and raw arrays, so that theta's size is the bill.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = b"LOG2"
HEADER = struct.Struct("<4sc3xIIIIIIIQIIIdff")


class Gradient(NamedTuple):
    """One worker's estimate, as moments,
    which can be pooled with others' where a finished merge could not.

    Attributes:
      worker: its place in the roster.
      life: a number that no other worker process of the run has had.
      sequence: counts the gradients of this life.
      family: index of the task family it is from.
      version: outer step of the theta it was computed at.
      num_samples: particles, or pairs, that it averages.
      num_steps: truncation length.
      num_live_steps: inner steps that counted.
      num_non_finite: particles left out.
      num_resets: particles that start a new episode.
      loss: mean loss of the truncation; nan if no sample has one.
      seconds_working: that it took.
      seconds_waiting: that the worker had waited for theta before.
      means: `[parts, size]`, mean gradient of each estimator that is merged; zero where no sample
        is finite.
      variances: `[parts, size]`, unbiased variance of one sample; `[1, 1]`, its mean over theta,
        where there is nothing to weigh. Infinite where a sample was left out, nan where fewer than
        two are finite.
    """

    worker: int
    life: int
    sequence: int
    family: int
    version: int
    num_samples: int
    num_steps: int
    num_live_steps: int
    num_non_finite: int
    num_resets: int
    loss: float
    seconds_working: float
    seconds_waiting: float
    means: NDArray
    variances: NDArray


def pack(gradient: Gradient) -> bytes:
    """The gradient as bytes: 72 of header, then means and variances."""
    *numbers, loss, working, waiting, means, variances = gradient
    code = means.dtype.char.encode()
    header = HEADER.pack(MAGIC, code, *numbers, len(means), loss, working, waiting)
    return header + means.tobytes() + variances.astype(means.dtype).tobytes()


def unpack(data: bytes, size: int) -> Gradient:
    """The inverse of `pack`.

    Args:
      data: the message.
      size: of theta.

    Raises:
      ValueError: the bytes are no gradient of a theta of this size.
    """
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no gradient of this version")
    _, code, *numbers, num_parts, loss, working, waiting = HEADER.unpack_from(data)
    if code not in (b"f", b"d"):
        raise ValueError(f"its type is {code!r}, allowed are float32 and float64")
    values = np.frombuffer(data, code.decode(), offset=HEADER.size)
    num_means = num_parts * size
    if len(values) not in (num_means + 1, 2 * num_means) or (
        num_parts > 1 and len(values) != 2 * num_means
    ):
        raise ValueError(
            f"it holds {len(values)} values, which {num_parts} parts of a theta of {size} do not "
            "make"
        )
    means, variances = values[:num_means], values[num_means:]
    return Gradient(
        *numbers, loss, working, waiting, means.reshape(num_parts, size),
        variances.reshape(num_parts, -1)
    )  # fmt: skip


def defect(gradient: Gradient) -> str | None:
    """Why a gradient must not reach theta, or None."""
    if not np.isfinite(gradient.means).all():
        return "its mean is not finite"
    if (gradient.variances < 0).any():
        return "its variance is below zero"
    if gradient.num_samples < 1:
        return "it averages no sample"
    return None
