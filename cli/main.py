"""The `learned-opt` command: one table of subcommands, one way to end on bad input.

A subcommand is a module with `Args`, a frozen dataclass that tyro reads the command line into, and `run(args)`, which
returns the exit status; one that reads the command line in its own way has `parse(argv, prog) -> Args` too. Modules are
imported when they are called, and import JAX in `run`, so help and bad input are answered at once.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "cli.train",
    "resume": "cli.resume",
    "list": "cli.list",
    "evaluate": "cli.evaluate",
    "tune": "cli.tune",
    "ablate": "cli.ablate",
    "reproduce": "cli.reproduce",
    "variance": "cli.variance",
    "bench": "cli.bench",
}
MAX_ERROR_LINES = 5
BAD_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit status: 2 after bad input, with at most five lines on stderr."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("LEARNED_OPT_TRACEBACK"):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        print("\n".join([f"error: {lines[0]}", *lines[1:MAX_ERROR_LINES]]), file=sys.stderr)
        return BAD_INPUT


def commands() -> dict[str, str]:
    """The subcommands of this version, name -> module."""
    return {name: module for name, module in COMMANDS.items() if importlib.util.find_spec(module)}


def _dispatch(argv: list[str]) -> int:
    from cli.parsing import HelpShown, parse
    from configs.serialize import near

    known = commands()
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(known))
        return 0 if argv else BAD_INPUT
    name, rest = argv[0], argv[1:]
    if name not in known:
        raise ValueError(f"unknown command {name!r}{near(name, known)}\nknown are {', '.join(known)}")
    module = importlib.import_module(known[name])
    prog = f"learned-opt {name}"
    try:
        args = module.parse(rest, prog) if hasattr(module, "parse") else parse(module.Args, rest, prog)
    except HelpShown:
        return 0
    return module.run(args)


def _usage(known: dict[str, str]) -> str:
    """The list of subcommands with the first line of each module's docstring."""
    lines = ["usage: learned-opt COMMAND ...", ""]
    for name, module in known.items():
        summary = (importlib.import_module(module).__doc__ or "").strip().splitlines()[0]
        lines.append(f"  {name:<10} {summary.split(': ', 1)[-1]}")
    return "\n".join([*lines, "", "`learned-opt COMMAND --help` explains every option."])


if __name__ == "__main__":
    sys.exit(main())
