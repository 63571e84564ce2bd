"""The page of `benchmarks.gpu_check`: Markdown, from its JSON alone.

python -m benchmarks.gpu_page build/gpu_check/gpu_check.json > page.md
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learned_opt_lab.drawing import markdown

Part = Mapping[str, Any]


def page(found: Mapping[str, Any]) -> str:
    """A table of the parts, then a section for each that has more to say."""
    parts = found["parts"]
    rows = [
        (name, "done" if part["status"] == 0 else f"failed ({part['status']})", part["seconds"])
        for name, part in parts.items()
    ]
    lines = ["# Accelerator check", ""]
    if found["small"]:
        lines += ["In a small form: the times say nothing.", ""]
    lines += table(("part", "result", "seconds"), rows)
    for name, section in SECTIONS.items():
        part = parts.get(name)
        if part is None:
            continue
        if part["status"]:
            lines += ["", f"## {name}: failed", "", "```", part["printed"].rstrip(), "```"]
        else:
            lines += ["", *section(part)]
    return "\n".join(lines) + "\n"


def _machine(part: Part) -> list[str]:
    memory = part["memory_bytes"]
    there = "unknown" if memory is None else f"{memory / 1e9:.1f} GB"
    units = ("float32, TFLOP/s", "bfloat16, TFLOP/s", "memory, GB/s", "source")
    rows = [
        (p["float32_flops"] / 1e12, p["bfloat16_flops"] / 1e12, p["bytes_per_second"] / 1e9,
         p["source"])
        for p in (part["peaks"], part["measured_peaks"])
    ]  # fmt: skip
    if part["peaks"]["source"] == "measured":
        rows = rows[:1]
        said = [
            "",
            "Not in the table of datasheets: shares are of what was measured.",
        ]
    else:
        said = []
    versions = {k: v for k, v in part["versions"].items() if v is not None}
    return [
        f"## {part['num_devices']} x {part['device']}", "", f"Memory of a device for JAX: {there}.",
        "", *table(units, rows), *said, "", ", ".join(f"{k} {v}" for k, v in versions.items()),
    ]  # fmt: skip


def _bench(part: Part) -> list[str]:
    names = (
        "estimator", "num_pairs", "num_steps", "inner_steps_per_second", "share_of_float32_peak",
        "share_of_bfloat16_peak", "temporary_bytes", "compile_seconds",
    )  # fmt: skip
    said = f"W1 on {part['device']}, images: {part['images']}. Flop are counted, not measured."
    return ["## Outer-training", "", said, "", *_columns(names, part["rows"])]


def _update(part: Part) -> list[str]:
    names = (
        "optimizer", "parameters", "ns_per_parameter", "ratio_to_adam", "share_of_bandwidth",
        "share_of_float32_peak", "share_of_bfloat16_peak", "bytes_moved_per_parameter",
        "temporary_bytes_per_parameter",
    )  # fmt: skip
    left_out = [
        f"Left out: {row['parameters']:,} parameters, which need {_needed(row)}."
        for row in part["left_out"]
    ]
    return ["## Update", "", *_columns(names, part["rows"]), *(["", *left_out] if left_out else [])]


def _needed(row: Part) -> str:
    needed = row["needed_bytes"]
    return "more than there is" if needed is None else f"{needed / 1e9:,.0f} GB"


def _quickstart(part: Part) -> list[str]:
    summary = part["summary"]
    rows = [("seconds", part["seconds"]), ("last outer loss", summary["outer_loss_last"])]
    if "memory" in summary:
        rows.append(("outer step, MB", summary["memory"]["outer_step_bytes"] / 1e6))
    rows += [
        (f"held-out test loss, {name}", value)
        for name, value in summary.get("heldout", {}).items()
        if name in ("learned", "adam_tuned", "adam_1e-3", "untrained")
    ]
    return ["## quickstart", "", *table(("", ""), rows)]


def _tests(part: Part) -> list[str]:
    lines = part["printed"].strip().splitlines()
    return ["## Tests", "", f"    {lines[-1] if lines else ''}"]


SECTIONS: dict[str, Callable[[Part], list[str]]] = {
    "machine": _machine,
    "tests": _tests,
    "sharding": lambda part: ["## Eight parts of the CPU", *_tests(part)[1:]],
    "bench": _bench,
    "update": _update,
    "quickstart": _quickstart,
}


def _columns(names: Sequence[str], rows: Sequence[Part]) -> list[str]:
    headings = [name.replace("_", " ") for name in names]
    return table(headings, [[row.get(name) for name in names] for row in rows])


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table; numbers with three digits, what is unknown empty."""
    return markdown.table(headings, [[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
