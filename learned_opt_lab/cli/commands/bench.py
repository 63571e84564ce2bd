"""bench --out FILE: how fast outer-training runs here, against the machine's own matmul rate."""

import dataclasses
import json
import resource
import sys
from pathlib import Path
from typing import Any, Literal

from learned_opt_lab.cli.output import Outcome

Part = Literal["outer_training", "cnn", "update_cost", "tuning", "scaling", "startup"]
QUICK_PARTS: tuple[Part, ...] = ("outer_training", "update_cost")
ALL_PARTS: tuple[Part, ...] = (
    "outer_training",
    "cnn",
    "update_cost",
    "tuning",
    "scaling",
    "startup",
)


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure outer-training (workload W1), optimizer updates, tuning, scaling and start-up;
    print and keep as JSON.
    """

    out: Path | None = None
    """JSON file to write; none if not given."""
    quick: bool = True
    """Minutes: W1, updates of small models, few points an axis.
    --no-quick takes about an hour on two cores."""
    figures: Path | None = None
    """Directory for the figures of scaling; none are drawn if not given.
    Only where scaling is measured."""
    parts: tuple[Part, ...] = ()
    """What to measure; if not given, outer_training and update_cost, with --no-quick all."""
    axes: tuple[Literal["pairs", "truncation", "hidden", "images", "devices"], ...] = ()
    """Axes of scaling; all of them if not given."""
    num_repeats: int = 10
    """Outer steps to time, after one that is not counted; medians are reported."""
    num_devices: int | None = None
    """CPU devices; one for each core if not given."""
    compilation_cache: bool = True
    """Keep compiled programs on disk, so that the next run starts sooner."""


def run(args: Args) -> Outcome:
    """Runs the benchmarks; nothing else should compute meanwhile.

    Raises:
      ValueError: for a count below 1.
    """
    if args.num_repeats < 1:
        raise ValueError(f"num_repeats must be at least 1, got {args.num_repeats}")
    from learned_opt_lab.cli import progress, surroundings

    progress.load("learned_opt_lab.bench.outer_training")
    import jax

    from learned_opt.disk import files
    from learned_opt_lab.results import made
    from learned_opt_lab.results.folder import finite

    for folder in (args.out and args.out.parent, args.figures):
        if folder is not None:
            surroundings.check_writable(folder)
    surroundings.start_jax(args.num_devices, args.compilation_cache)
    jax.devices()  # where there are none, that is all it says
    found = finite(_measure(args)) | {"made": made.here_and_now()}
    text = json.dumps(found, indent=2, allow_nan=False)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(args.out, text + "\n")
    print(text)
    line = f"measured; the numbers are in {args.out}" if args.out else ""
    return Outcome(0, {"out": args.out, **found}, line)


def _measure(args: Args) -> dict[str, Any]:
    from learned_opt_lab.bench import outer_training, scaling, startup, tuning, update_cost

    names = ("sgd", "adamw", "load()", "mlp()") if args.quick else None
    sizes = (1e4, 1e6) if args.quick else update_cost.SIZES
    axes = args.axes or tuple(scaling.LABELS)
    measure = {
        "outer_training": lambda: outer_training.run(args.num_repeats),
        "cnn": lambda: outer_training.cnn(args.num_repeats),
        "update_cost": lambda: update_cost.run(sizes, args.num_repeats, names),
        "tuning": lambda: [tuning.measure(batch_size) for batch_size in (32, 128)],
        "scaling": lambda: scaling.run(axes, args.quick, args.figures, args.num_repeats),
        "startup": startup.run,
    }
    chosen = args.parts or (QUICK_PARTS if args.quick else ALL_PARTS)
    found: dict[str, Any] = {}
    for part in ALL_PARTS:
        if part in chosen:
            # A line, and no bar: what moves would take time from what is measured.
            print(f"measuring {part}", file=sys.stderr, flush=True)
            # The figures of W1 stand at the top, where scripts look for them.
            found |= measure[part]() if part == "outer_training" else {part: measure[part]()}
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"process_peak_megabytes": kilobytes / 1e3}
