"""bench --out FILE: how fast outer-training runs here, against the machine's own matmul rate."""

import dataclasses
import json
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure inner steps a second of outer-training (workload W1), print them as JSON, and keep them in a file."""

    out: Path | None = None
    """JSON file to write; none if not given."""
    num_repeats: int = 10
    """Outer steps to time, after one that is not counted; medians are reported."""
    num_devices: int | None = None
    """CPU devices; one for each core if not given."""
    compilation_cache: bool = True
    """Keep compiled programs on disk, so that the next run starts sooner."""


def run(args: Args) -> int:
    """Runs the benchmark; nothing else should compute meanwhile.

    Raises:
      ValueError: for a count below 1.
    """
    if args.num_repeats < 1:
        raise ValueError(f"num_repeats must be at least 1, got {args.num_repeats}")
    from cli.session import start

    start(args.num_devices, args.compilation_cache)
    from benchmarks import outer_training

    text = json.dumps(outer_training.run(args.num_repeats), indent=2)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0
