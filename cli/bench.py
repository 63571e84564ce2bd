"""bench --out FILE: how fast outer-training runs here, against the machine's own matmul rate."""

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure outer-training (workload W1), optimizer updates, tuning, scaling and start-up; print and keep as JSON."""

    out: Path | None = None
    """JSON file to write; none if not given."""
    quick: bool = True
    """Minutes: W1 and the updates of small models. --no-quick measures all of it, about an hour on two cores."""
    figures: Path | None = None
    """Directory for the figures of scaling; none are drawn if not given. Only with --no-quick."""
    num_repeats: int = 10
    """Outer steps to time, after one that is not counted; medians are reported."""
    num_devices: int | None = None
    """CPU devices; one for each core if not given."""
    compilation_cache: bool = True
    """Keep compiled programs on disk, so that the next run starts sooner."""


def run(args: Args) -> int:
    """Runs the benchmarks; nothing else should compute meanwhile.

    Raises:
      ValueError: for a count below 1.
    """
    if args.num_repeats < 1:
        raise ValueError(f"num_repeats must be at least 1, got {args.num_repeats}")
    from cli.session import start

    start(args.num_devices, args.compilation_cache)
    text = json.dumps(_measure(args), indent=2)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def _measure(args: Args) -> dict[str, Any]:
    from benchmarks import outer_training, scaling, startup, tuning, update_cost

    found = outer_training.run(args.num_repeats)
    if args.quick:
        names = ("sgd", "adamw", "load()")
        return found | {"update_cost": update_cost.run((1e4, 1e6), args.num_repeats, names)}
    return found | {
        "cnn": outer_training.cnn(args.num_repeats),
        "update_cost": update_cost.run(num_repeats=args.num_repeats),
        "tuning": [tuning.measure(batch_size) for batch_size in (32, 128)],
        "scaling": scaling.run(list(scaling.LABELS), quick=False, figures=args.figures, num_repeats=args.num_repeats),
        "startup": startup.run(),
    }
