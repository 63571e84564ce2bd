"""How the cost of outer-training grows: pairs, truncation, inner model, data set, devices;
a figure of each.

    python -m learned_opt_lab.bench.scaling --out scaling.json --figures docs/figures
        [--axes pairs truncation ...] [--quick]

A figure `performance_AXIS.png` shows inner steps a second and the program's temporary memory over
the axis.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs import base
from learned_opt_lab.bench.outer_training import throughput, w1_family
from outer_train import use_cpu_devices

AXES: dict[str, tuple[int, ...]] = {
    "pairs": (4, 8, 16, 32, 64, 128, 256),
    "truncation": (10, 50, 158, 500, 1580, 5000),
    "hidden": (8, 32, 128, 512),
    "images": (2000, 7000, 35_000, 140_000),
}
QUICK: dict[str, tuple[int, ...]] = {
    "pairs": (4, 16, 64),
    "truncation": (10, 50, 500),
    "hidden": (8, 32, 128),
    "images": (2000, 35_000),
}
LABELS = {
    "pairs": "antithetic pairs",
    "truncation": "inner steps in a truncation",
    "hidden": "hidden units of the inner model",
    "images": "images in the data set",
    "devices": "CPU devices",
}
ESTIMATORS = tuple(map(base.name_of, (base.EvolutionStrategies, base.Merged)))
"""One that goes forward only, and one that is differentiated."""
DEVICE_SETUPS = ((1, 1), (1, 2), (2, 2))
"""(devices, cores) that `devices` compares."""


def measure(axis: str, values: Sequence[int], num_repeats: int = 10) -> list[dict[str, Any]]:
    """A row for each value and estimator;
    all else as in W1, but that long truncations take 4 pairs.

    Raises:
      ValueError: an unknown axis.
    """
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    rows = []
    for value in values:
        family, _ = w1_family(
            hidden=value if axis == "hidden" else 32,
            num_images=value if axis == "images" else 35_000,
        )
        pairs = {"pairs": value, "truncation": 4}.get(axis, 16)
        steps = value if axis == "truncation" else 50
        for estimator in ESTIMATORS:
            found = throughput(family, estimator, num_repeats, num_pairs=pairs, num_steps=steps)
            rows.append({"axis": axis, "value": value, "estimator": estimator, **found._asdict()})
    return rows


def devices(num_repeats: int = 10) -> list[dict[str, Any]]:
    """One device pinned to one core, one device with two threads, two devices;
    each in a process of its own.
    """
    rows = []
    for num_devices, num_cores in DEVICE_SETUPS:
        call = f"on_cores({num_devices}, {num_cores}, {num_repeats})"
        code = f"from learned_opt_lab.bench.scaling import on_cores; {call}"
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
        )
        rows += json.loads(found.stdout.splitlines()[-1])
    return rows


def on_cores(num_devices: int, num_cores: int, num_repeats: int) -> None:
    """Prints the rows of one setup; takes cores away from this process before JAX counts them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cores])
    use_cpu_devices(num_devices)
    family, _ = w1_family()
    rows = []
    for estimator in ESTIMATORS:
        found = throughput(family, estimator, num_repeats, num_devices=num_devices)
        value = f"{num_devices} on {num_cores} cores"
        rows.append({"axis": "devices", "value": value, "estimator": estimator, **found._asdict()})
    print(json.dumps(rows))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the rows of one axis."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    from learned_opt_lab.drawing.axes import legend

    axis = rows[0]["axis"]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for ax, name, label, unit in zip(
        figure.subplots(1, 2),
        ("inner_steps_per_second", "temporary_bytes"),
        ("inner steps a second", "temporary memory of a device, MB"),
        (1.0, 1e-6),
        strict=True,
    ):
        for estimator in ESTIMATORS:
            chosen = [row for row in rows if row["estimator"] == estimator]
            ax.plot(
                [r["value"] for r in chosen],
                [unit * r[name] for r in chosen],
                marker="o",
                label=estimator,
            )
        if axis != "devices":
            values = sorted({row["value"] for row in rows})
            ax.set_xscale("log")
            ax.set_xticks(
                values, [f"{value:,}" for value in values], rotation=30 if len(values) > 4 else 0
            )
            ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(LABELS[axis])
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
    legend(ax, frameon=True, fontsize=10)
    figure.savefig(path, dpi=120)


def run(
    axes: Sequence[str], quick: bool, figures: Path | None = None, num_repeats: int = 10
) -> list[dict[str, Any]]:
    """Measures the axes, `"devices"` among them,
    and draws a figure of each if a directory is given.
    """
    rows = []
    for axis in axes:
        values = (QUICK if quick else AXES).get(axis, ())
        found = devices(num_repeats) if axis == "devices" else measure(axis, values, num_repeats)
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            draw(found, figures / f"performance_{axis}.png")
        rows += found
    return rows


def main() -> None:
    """Measures, prints, writes and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--axes", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--num-repeats", type=int, default=10)
    args = parser.parse_args()
    use_cpu_devices()
    text = json.dumps(run(args.axes, args.quick, args.figures, args.num_repeats), indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
