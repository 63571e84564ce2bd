"""compare RUN RUN...: what runs have reached, and where their configs differ."""

import dataclasses
from pathlib import Path

from learned_opt_lab.cli.options.fields import Positional
from learned_opt_lab.cli.output import Outcome, say


@dataclasses.dataclass(frozen=True)
class Args:
    """Compare runs: outer loss and its noise, held-out score, inner steps, time, configs."""

    runs: Positional[tuple[Path, ...]]
    """Run directories; a folder of runs, of seeds or a sweep, stands for the runs in it."""
    out: Path | None = None
    """Folder for compare.json, compare.md, compare.html and outer_loss.png."""


def run(args: Args) -> Outcome:
    """Prints the table, and writes the files.

    Raises:
      ValueError: a path holds no run, or there are fewer than two.
      OSError: a file cannot be read or written.
    """
    from learned_opt_lab.cli import surroundings
    from learned_opt_lab.results.folder import warn, write_result
    from learned_opt_lab.watch import comparison
    from learned_opt_lab.watch.reading import Reader, find_runs

    found = find_runs(args.runs)
    if len(found) < 2:
        raise ValueError(f"learned-opt compare needs at least two runs, got {len(found)}")
    if args.out is not None:
        surroundings.check_writable(args.out)
    runs = Reader(found).read()
    for line in (line for each in runs for line in each.trouble):
        warn(line)
    lines = comparison.lines(runs)
    say(*lines)
    compared = comparison.comparison(runs)
    if args.out is not None:
        write_result(args.out / "compare.json", compared)
        _write(runs, lines, args.out)
    return Outcome(found={"comparison": compared, "out": args.out})


def _write(runs: list, lines: list[str], out: Path) -> None:
    from learned_opt.disk import files
    from learned_opt_lab.drawing.training_figures import save
    from learned_opt_lab.watch import comparison, page

    files.write_text(out / "compare.md", "\n".join(lines) + "\n")
    files.write_text(out / "compare.html", page.render(runs))
    save(comparison.figure(runs), out / "outer_loss.png")
    say("", f"the figure and the page are in {out}")
