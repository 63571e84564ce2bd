"""`docs/papers.md` and `docs/papers.json`: every claim beside our number, and one word for both."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learned_opt_lab.drawing.markdown import Raw, show, table
from learned_opt_lab.papers.claims import donini2019, metz2019, wang2021, wu2018
from learned_opt_lab.papers.claims.claim import Claim, source_of
from learned_opt_lab.papers.claims.measured import EXACT, Measured
from learned_opt_lab.papers.claims.rules import WORDS
from learned_opt_lab.results import made

PAPERS = {
    "metz2019": metz2019.PAPER,
    "wu2018": wu2018.PAPER,
    "donini2019": donini2019.PAPER,
    "wang2021": wang2021.PAPER,
}
MISSING = "missing"
"""The word of a row without a number."""
_INTRO = """\
# The papers' claims, one by one

Each row is a claim of a figure or a theorem: the paper's number, ours, and one word. The word
follows from our number, its 95 % interval and the paper's by a rule of
`learned_opt_lab/papers/claims`; nobody sets it. `python -m benchmarks.papers_page DIR` writes this
page from the results in `DIR`. The figures are in the [gallery](gallery/index.md).
Three experiments were made larger after their first results were seen; the
[notebook](notebook/2026-11-28-sizes-of-experiments.md) has both.

| word | where the paper says that a number lies above, or below, a value of no effect |
|---|---|
| shown | our interval lies on that side, and reaches the paper's number if it prints one |
| direction | our interval lies on that side, short of the paper's number; or one run lies there |
| not shown | our interval holds the value of no effect; or one run lies on the other side |
| reversed | our interval lies on the other side |

Where the paper prints a number to be met, or says that nothing differs, *shown* is an interval
inside a margin, and *direction* one that reaches into it. One run never shows more than a
direction. A number that is *exact* has no randomness in it. At the scale `default` the tasks are
smaller than the paper's.

Short names: evolution strategies (ES); multilayer perceptron (MLP); convolutional network (CNN);
hypergradient descent (HD); real-time hyperparameter optimization (RTHO); moving average real-time
hyperparameter estimation (MARTHE); the schedule that is optimized over whole runs (LRS-OPT).
"""


def collect(results: Path, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of `papers.json`.

    Args:
      results: holds a folder for each result, with `result.json` and `made.json`.
      earlier: content whose rows stay where `results` has no result for them.

    Returns:
      `results`, by name how each was made, and `papers`, by name their rows.
    """
    earlier = earlier or {"results": {}, "papers": {}}
    kept = {
        (name, row["where"], row["says"]): row
        for name, rows in earlier["papers"].items()
        for row in rows
    }
    papers, about = {}, {}
    for name, paper in PAPERS.items():
        papers[name] = [
            _row(claim, results, kept.get((name, claim.where, claim.says)))
            for claim in paper.claims
        ]
        for claim in paper.claims:
            found = _read(results / claim.source / made.NAME)
            about[claim.source] = found or earlier["results"].get(claim.source)
    return {"results": about, "papers": papers}


def _row(claim: Claim, results: Path, kept: Mapping[str, Any] | None) -> dict[str, Any]:
    said = {"where": claim.where, "says": claim.says, "printed": claim.printed}
    row: dict[str, Any] = said | {"source": claim.source, "command": source_of(claim).command}
    result = _read(results / claim.source / source_of(claim).file)
    if result is None:
        there = kept is not None and kept["ours"] is not None
        ours = Measured(**kept["ours"]) if kept and there else None
    else:
        ours = _ours(claim, result)
    word = MISSING if ours is None else claim.rule.word(ours)
    return row | {"ours": None if ours is None else ours._asdict(), "word": word}


def _ours(claim: Claim, result: Mapping[str, Any]) -> Measured | None:
    """None where the result has not what the claim needs, as one of another version or size."""
    try:
        ours = claim.ours(dict(result))
    except (LookupError, StopIteration, TypeError, ValueError):
        return None
    return ours if math.isfinite(ours.value) else None


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def markdown(content: Mapping[str, Any]) -> str:
    """The page, from the content of `papers.json` alone."""
    counts = [
        (paper.title, *_counts(content["papers"][name], [*WORDS, MISSING]))
        for name, paper in PAPERS.items()
    ]
    lines = [_INTRO, *table(("paper", *WORDS, MISSING), counts)]
    head = ("in the paper", "what it says", "paper", "ours", "word", "command, scale, time")
    for name, paper in PAPERS.items():
        rows = [_cells(row, content["results"]) for row in content["papers"][name]]
        lines += ["", f"## {paper.title}", "", f"{paper.about}.", "", *table(head, rows)]
    lines += ["", "## How the results were made", "", *_made(content["results"])]
    return "\n".join(lines) + "\n"


def _counts(rows: Iterable[Mapping[str, Any]], words: Sequence[str]) -> list[int]:
    found = Counter(row["word"] for row in rows)
    return [found[word] for word in words]


def _cells(row: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[str, ...]:
    how = about.get(row["source"])
    facts = f", {how['scale']}, {show(how['minutes'], 2)} min" if how else ""
    ours = MISSING if row["ours"] is None else _number(Measured(**row["ours"]))
    command = f"`learned-opt {row['command']}`{facts}"
    return row["where"], row["says"], row["printed"], ours, Raw(f"**{row['word']}**"), Raw(command)


def _number(ours: Measured) -> str:
    if ours.over == EXACT:
        return f"{show(ours.value, 4)}, exact"
    if ours.low is None or ours.high is None:
        return f"{show(ours.value)}, {ours.over}"
    return f"{show(ours.value)} [{show(ours.low)}, {show(ours.high)}], {ours.over}"


def _made(about: Mapping[str, Any]) -> list[str]:
    head = ("result", "scale", "minutes", "machine", "commit", "figures")
    rows = [
        (
            Raw(f"`{name}`"),
            how["scale"],
            show(how["minutes"], 2),
            how["machine"],
            Raw(f"`{how['commit']}`"),
            _figures(how.get("figures", ())),
        )
        for name, how in sorted(about.items())
        if how
    ]
    return table(head, rows)


def _figures(names: Iterable[str]) -> Raw:
    links = [f"[{i}](figures/gallery/{name})" for i, name in enumerate(names, 1)]
    return Raw(", ".join(links) or "none")
