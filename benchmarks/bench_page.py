"""The benchmarks as a page: `docs/results/benchmarks.json` and `docs/results/benchmarks.md`.

    python -m benchmarks.bench_page FILE...

A FILE is what `learned-opt bench --out FILE`, `python -m benchmarks.train_step > FILE` or `python
-m benchmarks.host_data > FILE` gave. What none of them measured stays on the page as it is.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from learned_opt.disk import files
from learned_opt_lab.drawing.markdown import Raw, code, show, table

RESULTS = Path(__file__).parents[1] / "docs" / "results"
NAME = "benchmarks"
Part = Mapping[str, Any]
_ABOUT = """\
# Benchmarks

Written from `benchmarks.json` by `python -m benchmarks.bench_page`; nobody edits it. How each
number is measured, what the workloads are, and what stands between a number and its limit is in
[Performance](../performance.md). All are medians in one run on a machine that does nothing else.
CNN is short for convolutional network, GFLOP/s for a thousand million floating-point operations a
second.
"""
_W1 = {
    "forward": "forward, one hidden layer",
    "forward_two_layers": "forward, two hidden layers",
    "merged": "`merged`, one hidden layer",
}


def parts_of(found: Part) -> dict[str, Part]:
    """Name of a section -> what it is made from, of the content of one FILE."""
    made = {"made": found["made"]}
    if "ratio_to_adamw" in found:
        return {"train_step": found}
    if "host_over_device" in found:
        return {"host_data": found}
    parts = {
        name: {"rows": found[name]} | made
        for name in ("cnn", "update_cost", "tuning")
        if name in found
    }
    if "startup" in found:
        parts["startup"] = found["startup"] | made
    if "matmul_gflops" in found:
        own = {k: v for k, v in found.items() if k not in (*parts, "scaling")}
        parts["outer_training"] = own
    return parts


def markdown(content: Mapping[str, Part]) -> str:
    """The page, from the content of `benchmarks.json` alone."""
    lines = [_ABOUT.rstrip()]
    for name, (title, command, section) in SECTIONS.items():
        if part := content.get(name):
            lines += ["", f"## {title}", "", _made(part["made"], command), "", *section(part)]
    return "\n".join(lines) + "\n"


def _made(made: Part, command: str) -> str:
    where = f"{made['machine']}; commit {code(made['commit'] or 'none')}, {made['ended'][:10]}"
    return f"`{command}`: {where}."


def _outer_training(part: Part) -> list[str]:
    rows = [
        (
            Raw(label),
            f"{part[f'{name}_inner_steps_per_second']:,.0f}",
            f"{part[f'{name}_at_reference_rate']:,.0f}",
            f"{100 * part[f'{name}_share_of_matmul_rate']:.0f}",
        )
        for name, label in _W1.items()
    ]
    reference = part["reference_matmul_gflops"]
    head = ("estimator", "inner steps/s", f"scaled to {reference:g} GFLOP/s", "matmul rate, %")
    rate = part["matmul_gflops"]
    devices = f"{part['num_devices']} devices"
    return [
        *table(head, rows),
        "",
        f"Matmul rate of the same run: {show(rate)} GFLOP/s, {devices}.",
    ]


def _cnn(part: Part) -> list[str]:
    rows = [
        (
            "forward" if row["estimator"] == "evolution_strategies" else code(row["estimator"]),
            len(row["hidden_sizes"]),
            f"{row['inner_steps_per_second']:,.0f}",
            f"{100 * row['share_of_matmul_rate']:.0f}",
        )
        for row in part["rows"]
    ]
    return table(("estimator", "hidden layers", "inner steps/s", "matmul rate, %"), rows)


def _update_cost(part: Part) -> list[str]:
    names = ("ratio_to_adam", "ns_per_parameter")
    sizes = ("state_bytes_per_parameter", "temporary_bytes_per_parameter")
    head = ("optimizer", "time over Adam's", "ns", "state", "temporary")
    lines = ["ns, state and temporary memory in bytes are for each parameter."]
    # A table for each number of parameters: a column more would not fit a phone.
    for number, of_size in itertools.groupby(part["rows"], lambda row: row["parameters"]):
        rows = [
            (
                code(row["optimizer"]),
                *(show(row[name]) for name in names),
                *(show(row[name], 2) for name in sizes),
            )
            for row in of_size
        ]
        lines += ["", f"{number:,} parameters:", "", *table(head, rows)]
    return lines


def _tuning(part: Part) -> list[str]:
    rows = [
        (
            row["batch_size"],
            f"{row['sweep_inner_steps_per_second']:,.0f}",
            show(row["speedup_over_scans"]),
            show(row["speedup_over_plain_loops"]),
        )
        for row in part["rows"]
    ]
    return table(("batch", "inner steps/s", "over single scans", "over jitted steps"), rows)


def _startup(part: Part) -> list[str]:
    names = {"cold": "cold", "warm": "second, with the cache", "import": "of that: imports"}
    return table(
        ("start", "seconds"),
        [(label, show(part[f"{name}_seconds"])) for name, label in names.items()],
    )


def _train_step(part: Part) -> list[str]:
    rows = [
        (code(name), show(seconds), show(part["ratio_to_adamw"][name]))
        for name, seconds in part["seconds"].items()
    ]
    size = f"A transformer of {part['num_parameters']:,} parameters, 8 windows of 128 bytes."
    return [size, "", *table(("optimizer", "seconds a step", "over AdamW's"), rows)]


def _host_data(part: Part) -> list[str]:
    rows = [(name, show(rate)) for name, rate in part["steps_per_second"].items()]
    said = (
        f"Fed from the host a step takes {show(part['host_over_device'])} times as long. Where "
        f"nothing else runs, {show(part['windows_per_second'])} windows a second are read."
    )
    return [*table(("data on the", "outer steps/s"), rows), "", said]


SECTIONS: dict[str, tuple[str, str, Callable[[Part], list[str]]]] = {
    "outer_training": ("Outer-training", "learned-opt bench --out FILE", _outer_training),
    "cnn": ("The paper's CNN", "learned-opt bench --parts cnn --out FILE", _cnn),
    "update_cost": ("An update", "learned-opt bench --out FILE", _update_cost),
    "train_step": ("A whole train step", "python -m benchmarks.train_step", _train_step),
    "tuning": (
        "A sweep beside single runs",
        "learned-opt bench --parts tuning --out FILE",
        _tuning,
    ),
    "startup": (
        "Start-up, to the first outer step of quickstart",
        "learned-opt bench --parts startup --out FILE",
        _startup,
    ),
    "host_data": ("Data from the host", "python -m benchmarks.host_data", _host_data),
}


def main(argv: list[str] | None = None) -> int:
    """Writes both files; status 2 for what is no measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_page")
    parser.add_argument("files", type=Path, nargs="+", help="what a benchmark gave")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the page is written")
    args = parser.parse_args(argv)
    path = args.results / f"{NAME}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for file in args.files:
        try:
            parts = parts_of(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, LookupError, TypeError) as error:
            parser.error(f"{file} is no measurement: {error!r:.200}")
        if not parts:
            parser.error(f"{file} holds nothing that the page shows")
        content |= parts
    files.write_json(path, content, indent=1)
    files.write_text(args.results / f"{NAME}.md", markdown(content))
    print(f"{', '.join(name for name in SECTIONS if name in content)}: {args.results / NAME}.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
