"""Throughput against the number of workers, truncation spread and staleness: a model, and its plot.

    python -m benchmarks.scaling_model scaling.json --out docs/figures/scaling.png

`scaling.json` is what `python -m benchmarks.scaling_measure` found on one machine. In step, all
hosts make the same truncation and the slowest is waited for. Asynchronously each draws its own
length and none waits, until the learner is busy all the time; what is paid is staleness, and the
gradients beyond its bound.
"""

import argparse
import heapq
import json
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from learned_opt_lab.drawing.axes import legend

HOST_JITTER = 0.1
"""Standard deviation of a host's speed from step to step, relative:
other load, clocks, the network."""


class Costs(NamedTuple):
    """Seconds, as measured.

    Attributes:
      overhead: of a worker's gradient, whatever its length.
      per_inner_step: of a gradient, for each inner step of its truncation (all particles of the
        worker).
      per_gradient: of the learner, for each gradient it takes.
      per_step: of the learner, for each outer step.
      latency: from a gradient sent to the next theta received, while the learner has nothing else
        to do.
      reduction: of one sum between two hosts.
      num_pairs: antithetic pairs of a worker.
    """

    overhead: float
    per_inner_step: float
    per_gradient: float
    per_step: float
    latency: float
    reduction: float
    num_pairs: int


class Lengths(NamedTuple):
    """Truncations uniform in log between `low` and `high`; alike for a constant length."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Inner steps."""
        return np.exp(rng.uniform(np.log(self.low), np.log(self.high), shape))


class Throughput(NamedTuple):
    """What a number of workers gives: inner steps a second that reach theta; staleness in outer
    steps, its mean; the share of gradients dropped; the shares of their time that workers and
    learner wait.
    """

    inner_steps: float
    staleness: float
    dropped: float
    worker_idle: float
    learner_idle: float


def fit(measured: dict) -> Costs:
    """Costs from measurements.

    The time of a gradient through Ray falls to the learner's own as workers are added; one worker
    sees the whole trip.
    """
    rates = {int(count): rate for count, rate in measured["ray_gradients_per_second"].items()}
    busy = 1 / max(rates.values())
    worker, learner = measured["worker"], measured["learner"]
    return Costs(
        worker["overhead"],
        worker["per_inner_step"],
        busy + learner["per_gradient"],
        learner["per_step"],
        max(1 / rates[1] - busy, 0.0),
        measured["reduction"],
        worker["num_pairs"],
    )


def in_step(
    costs: Costs, lengths: Lengths, num_hosts: int, num_steps: int = 400, seed: int = 0
) -> Throughput:
    """All hosts make the same truncation.

    A step takes as long as its slowest host, and two sums over all hosts.

    A sum takes `log2(hosts)` times that of two hosts.
    """
    rng = np.random.default_rng(seed)
    length = lengths.draw(rng, (num_steps,))
    slowness = 1 + HOST_JITTER * np.abs(rng.normal(size=(num_steps, num_hosts)))
    work = costs.overhead + costs.per_inner_step * length
    rest = 2 * costs.reduction * np.log2(num_hosts) + costs.per_step
    seconds = work * slowness.max(axis=1) + rest
    useful = 2 * costs.num_pairs * num_hosts * length.sum() / seconds.sum()
    idle = 1 - (work[:, None] * slowness).mean(axis=1).sum() / seconds.sum()
    return Throughput(useful, 0.0, 0.0, idle, 0.0)


def asynchronous(
    costs: Costs,
    lengths: Lengths,
    num_workers: int,
    gradients_per_step: int,
    max_staleness: int,
    *,
    num_gradients: int = 20_000,
    seed: int = 0,
) -> Throughput:
    """Workers and one learner, event by event.

    A worker draws a length, works, and waits for its turn at the learner; a gradient older than
    `max_staleness` outer steps is dropped; every `gradients_per_step` others make a step.
    """
    rng = np.random.default_rng(seed)
    free, version, batch, taken, dropped, useful, staleness, busy, worked = (
        0.0,
        0,
        0,
        0,
        0,
        0.0,
        0.0,
        0.0,
        0.0,
    )

    def begin(now, worker):
        length = float(lengths.draw(rng))
        work = (costs.overhead + costs.per_inner_step * length) * (
            1 + HOST_JITTER * abs(rng.normal())
        )
        return (now + costs.latency + work, worker, version, length, work)

    # Started over one mean truncation, as they would be after a while.
    queue = [
        begin(rng.uniform() * costs.per_inner_step * lengths.high, worker)
        for worker in range(num_workers)
    ]
    heapq.heapify(queue)
    warm_up, since = num_gradients // 4, 0.0
    for number in range(num_gradients):
        arrived, worker, of, length, work = heapq.heappop(queue)
        if number == warm_up:
            taken, dropped, useful, staleness, busy, worked, since = (
                0,
                0,
                0.0,
                0.0,
                0.0,
                0.0,
                max(arrived, free),
            )
        free = max(arrived, free) + costs.per_gradient
        busy, worked = busy + costs.per_gradient, worked + work
        if version - of > max_staleness:
            dropped += 1
        else:
            taken, batch = taken + 1, batch + 1
            useful, staleness = useful + 2 * costs.num_pairs * length, staleness + version - of
        if batch == gradients_per_step:
            free, busy, version, batch = (
                free + costs.per_step,
                busy + costs.per_step,
                version + 1,
                0,
            )
        heapq.heappush(queue, begin(free, worker))
    seconds = free - since
    return Throughput(
        useful / seconds,
        staleness / max(taken, 1),
        dropped / (taken + dropped),
        max(1 - worked / (seconds * num_workers), 0.0),
        max(1 - busy / seconds, 0.0),
    )


def draw(costs: Costs, path: Path, counts: tuple[int, ...]) -> None:
    """Throughput, the share of it lost, and staleness against workers,
    for three spreads of the truncation.
    """
    spreads = {
        "K = 20": Lengths(20, 20),
        "K in 20..200": Lengths(20, 200),
        "K in 50..5,000": Lengths(50, 5000),
    }
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for color, (name, lengths) in zip(("C0", "C1", "C2"), spreads.items(), strict=True):
        batch = [max(count // 4, 1) for count in counts]
        rows = [
            asynchronous(costs, lengths, c, b, 16, num_gradients=40 * max(c, 200))
            for c, b in zip(counts, batch, strict=True)
        ]
        together = [in_step(costs, lengths, count) for count in counts]
        left.loglog(
            counts, [row.inner_steps for row in rows], color=color, label=f"asynchronous, {name}"
        )
        left.loglog(
            counts,
            [row.inner_steps for row in together],
            color=color,
            linestyle="--",
            label=f"in step, {name}",
        )
        middle.semilogx(counts, [row.worker_idle for row in rows], color=color)
        middle.semilogx(counts, [row.worker_idle for row in together], color=color, linestyle="--")
    for bound, style in ((4, ":"), (16, "-")):
        for color, lengths in zip(("C0", "C1", "C2"), spreads.values(), strict=True):
            rows = [
                asynchronous(costs, lengths, 128, b, bound, num_gradients=20_000)
                for b in (1, 4, 16, 32, 64, 128)
            ]
            label = f"bound {bound}" if color == "C0" else None
            right.semilogx(
                (1, 4, 16, 32, 64, 128), [r.dropped for r in rows], style, color=color, label=label
            )
    ideal = 2 * costs.num_pairs / costs.per_inner_step
    left.loglog(
        counts, [ideal * count for count in counts], color="0.6", linewidth=1, label="no loss"
    )
    for axes, title in (
        (left, "inner steps a second"),
        (middle, "share of their time that workers wait"),
    ):
        axes.set(xlabel="workers (hosts)", title=title)
    right.set(
        xlabel="gradients a step, of 128 workers", title="share of gradients dropped as too stale"
    )
    legend(left, frameon=True, fontsize=7)
    legend(right, frameon=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Fits, draws and prints the table of docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/scaling.png"))
    args = parser.parse_args()
    measured = json.loads(args.measured.read_text(encoding="utf-8"))
    costs = fit(measured)
    print(costs)
    counts = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    for count in counts:
        rows = [
            in_step(costs, Lengths(20, 200), count),
            asynchronous(costs, Lengths(20, 200), count, max(count // 4, 1), 16),
        ]
        print(
            count,
            *(
                f"{row.inner_steps:12,.0f} {row.worker_idle:.2f} {row.staleness:.1f}"
                for row in rows
            ),
        )
    draw(costs, args.out, counts)


if __name__ == "__main__":
    main()
