"""watch RUN...: a page of running or finished runs, live on this machine or in a file."""

import dataclasses
from pathlib import Path

from learned_opt_lab.cli.options.fields import Positional
from learned_opt_lab.cli.output import Outcome, result


@dataclasses.dataclass(frozen=True)
class Args:
    """Show runs side by side: losses, noise, variances, pace, how far they are.

    A live page is served to this machine alone, until Ctrl-C. Runs may be started, stopped and
    resumed meanwhile.
    """

    runs: Positional[tuple[Path, ...]]
    """Run directories; a folder of runs, of seeds or a sweep, stands for the runs in it."""
    out: Path | None = None
    """Write the page as it is now into this file, and serve nothing."""
    port: int = 0
    """To listen at, at 127.0.0.1; 0 is one that is free."""


def run(args: Args) -> Outcome:
    """Serves the page until it is interrupted, or writes it.

    Raises:
      ValueError: a path holds no run, or the port is taken.
      OSError: a file cannot be read or written.
    """
    if not 0 <= args.port < 2**16:
        raise ValueError(f"--port must be within 0..65535, got {args.port}")
    from learned_opt_lab.watch.reading import Reader, find_runs

    reader = Reader(find_runs(args.runs))
    if args.out is not None:
        return _write(reader.read(), args.out)
    from learned_opt_lab.watch.server import Server

    with Server(reader, args.port) as server:
        result(f"{server.url} shows the runs until you press Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return Outcome(found={"url": server.url})


def _write(runs: list, out: Path) -> Outcome:
    from learned_opt.disk import files
    from learned_opt_lab.watch import page

    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, page.render(runs))
    return Outcome(found={"out": out}, line=f"the page is {out}")
