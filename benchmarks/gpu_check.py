"""What needs an accelerator to be known, in one run: one JSON file and one page made from it.

    make gpu-check
    python -m benchmarks.gpu_check --out build/gpu_check [--parts update bench] [--small]

Its parts, each in processes of its own, so that one that fails leaves the others whole:

- machine: devices, their memory, their peaks by datasheet and as measured.
- tests: `tests/modes/test_accelerator.py` on the accelerator.
- bench: W1 as `learned-opt bench` measures it, with shares of the peaks, and more pairs.
- quickstart: `learned-opt train quickstart`.
- update: optimizers on models of 1e6 to 1e9 parameters, those that fit.
- sharding: the tests of sharded parameters and particles on eight parts of the CPU.

With `--small` everything is done in a small form, on whatever JAX has.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_page import page
from learned_opt.disk import files

ROOT = Path(__file__).parents[1]
NO_ACCELERATOR = 2
"""Exit status where JAX has no accelerator, and nothing small was asked for."""
SIZES, SMALL_SIZES = (10**6, 10**7, 10**8, 10**9), (10**3, 10**4)
PAIRS = (16, 256, 2048)
OPTIMIZERS = ("adam", "load()", "mlp()")
BYTES_PER_PARAMETER = 48
"""Held while an update is timed beside Adam's: parameters, two updates, the states of both."""
WHERE_IT_IS = {"JAX_PLATFORMS": ""}
"""Tests run on a CPU unless this is set; empty is JAX's own choice."""


def machine(small: bool) -> dict[str, Any]:
    """Devices, versions and peaks."""
    import jax

    from learned_opt_lab.bench import peaks
    from outer_train.memory import available_bytes
    from outer_train.run import made_with

    devices, repeats = jax.local_devices(), 1 if small else 10
    size = 128 if small else None
    return {
        "device": devices[0].device_kind,
        "platform": devices[0].platform,
        "num_devices": len(devices),
        "memory_bytes": available_bytes(devices),
        "peaks": peaks.peaks_of(devices[0], repeats, size)._asdict(),
        "measured_peaks": peaks.measured_peaks(devices[0], repeats, size)._asdict(),
        "versions": made_with.versions(),
    }


def bench(small: bool) -> dict[str, Any]:
    """W1 and, on more pairs, forward and merged; rows with shares of the peaks."""
    import jax

    from learned_opt_lab.bench import outer_training
    from outer_train import particle_mesh

    shares_of = _shares(small)
    family, images = outer_training.w1_family(num_images=2000 if small else 70_000)
    rows = []
    for num_pairs in (2,) if small else PAIRS:
        for estimator in ("evolution_strategies",) if small else ("evolution_strategies", "merged"):
            options = {"num_pairs": num_pairs, "num_steps": 2 if small else 50}
            found = outer_training.throughput(family, estimator, 1 if small else 10, **options)
            flop = outer_training.counted_flop(
                family, outer_training.BATCH_SIZE, (32,), estimator == "merged"
            )
            shares = shares_of(found.inner_steps_per_second * flop, particle_mesh(num_pairs).size)
            rows.append({"estimator": estimator, **options, **found._asdict(), **shares})
    return {"device": jax.devices()[0].device_kind, "images": images, "rows": rows}


def _shares(small: bool) -> Callable[[float, int], dict[str, float]]:
    import jax

    from learned_opt_lab.bench import peaks

    found = peaks.peaks_of(jax.devices()[0], 1 if small else 10, 128 if small else None)
    return lambda flops, num_devices: peaks.shares_of_flops(flops, found, num_devices)


def update(small: bool) -> dict[str, Any]:
    """A row for each optimizer and size; sizes that do not fit are named with what they need."""
    import jax

    from learned_opt_lab.bench import peaks, update_cost
    from outer_train.memory import available_bytes

    device = jax.devices()[0]
    found = peaks.peaks_of(device, 1 if small else 10, 128 if small else None)
    there, rows, left_out = available_bytes([device]), [], []
    for size in SMALL_SIZES if small else SIZES:
        if there is not None and BYTES_PER_PARAMETER * size > there:
            left_out.append({"parameters": size, "needed_bytes": BYTES_PER_PARAMETER * size})
            continue
        try:
            timed = update_cost.run((size,), 1 if small else 10, OPTIMIZERS)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            left_out.append({"parameters": size, "needed_bytes": None})
            continue
        for row in timed:
            seconds = 1e-9 * row["ns_per_parameter"]
            # Gradient, parameter and state are read, update and state written.
            moved = 12 + 2 * row["state_bytes_per_parameter"]
            shares = peaks.share_of_bandwidth(moved / seconds, found)
            if row["flop_per_parameter"] is not None:
                shares |= peaks.shares_of_flops(row["flop_per_parameter"] / seconds, found)
            rows.append({**row, "bytes_moved_per_parameter": moved, **shares})
    return {"device": device.device_kind, "rows": rows, "left_out": left_out}


MEASURED: dict[str, Callable[[bool], dict[str, Any]]] = {
    "machine": machine, "bench": bench, "update": update
}  # fmt: skip
PARTS = ("machine", "tests", "bench", "quickstart", "update", "sharding")


def measured(name: str, small: bool, out: Path) -> dict[str, Any]:
    """A part of `MEASURED`, in a process of its own: until it ends, JAX holds a device's memory."""
    result = out / f"{name}.part.json"
    result.unlink(missing_ok=True)
    command = ["-m", "benchmarks.gpu_check", "--out", str(out), "--child", name]
    about = called([*command, *(["--small"] if small else [])], {})
    if result.exists():
        about |= files_json(result)
        result.unlink()
    return about


def quickstart(small: bool, out: Path) -> dict[str, Any]:
    """The command as a user starts it, and what its run says."""
    run = out / "quickstart"
    command = ["-m", "learned_opt_lab.cli.main", "train", "quickstart", "--overwrite"]
    if small:
        command += ["--num-outer-steps", "2", "--held-out.num-tasks", "0"]
        command += ["--estimator.num-pairs", "2", "--optimizer.hidden-sizes", "2"]
    about = called([*command, "--run-dir", str(run)], {})
    if about["status"] == 0:
        about["summary"] = files_json(run / "summary.json")
    return about


def tested(paths: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Tests by pytest, slow ones too."""
    return called(["-m", "pytest", "-p", "no:cacheprovider", *paths], environment)


def called(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """A Python process: its exit status, its seconds, and the end of what it printed."""
    start = time.perf_counter()
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    seconds = time.perf_counter() - start
    return {"status": found.returncode, "seconds": seconds, "printed": found.stdout[-2000:]}


def files_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def check(name: str, small: bool, out: Path) -> dict[str, Any]:
    """One part by its name."""
    if name in MEASURED:
        return measured(name, small, out)
    if name == "quickstart":
        return quickstart(small, out)
    if name == "tests":
        only = ["-k", "an_update"] if small else []
        return tested(["tests/modes/test_accelerator.py", *only], WHERE_IT_IS)
    sharded = ["tests/outer_train/estimators/test_sharding.py"]
    more = ["-k", "persistent_es"] if small else ["tests/learned_opt/test_sharding.py"]
    return tested([*sharded, *more], {"JAX_PLATFORMS": "cpu"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts; writes after each. 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu_check"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--child", choices=tuple(MEASURED), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    out = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if args.child:
        files.write_json(out / f"{args.child}.part.json", MEASURED[args.child](args.small))
        return 0
    found: dict[str, Any] = {"small": args.small, "parts": {}}
    for name in dict.fromkeys(["machine", *args.parts]):
        print(f"{name} ...", flush=True)
        found["parts"][name] = part = check(name, args.small, out)
        if name == "machine" and part.get("platform") == "cpu" and not args.small:
            print("error: JAX has no accelerator here; --small runs without", file=sys.stderr)
            return NO_ACCELERATOR
        files.write_json(out / "gpu_check.json", found)
        files.write_text(out / "gpu_check.md", page(found))
        print(f"{name}: {'done' if part['status'] == 0 else 'FAILED'}, {part['seconds']:.0f} s")
    print(f"gpu_check.json and gpu_check.md are in {out}")
    return int(any(part["status"] for part in found["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
