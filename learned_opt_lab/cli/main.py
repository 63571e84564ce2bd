"""The `learned-opt` command: one table of subcommands, one way to end on bad input.

A subcommand is a module with `Args`, a frozen dataclass that the command line is read into, and
`run(args)`, which returns the exit status or an `output.Outcome`; one that reads the command line
in its own way has `parse(argv, prog) -> Args` too. Modules are imported when they are called, and
import JAX in `run`, so help and bad input are answered at once.
"""

import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence

from learned_opt_lab.cli import output, surroundings
from learned_opt_lab.drawing import text

COMMANDS = {
    "train": "learned_opt_lab.cli.commands.train",
    "resume": "learned_opt_lab.cli.commands.resume",
    "search": "learned_opt_lab.cli.commands.search",
    "list": "learned_opt_lab.cli.listing.command",
    "evaluate": "learned_opt_lab.cli.commands.evaluate",
    "tune": "learned_opt_lab.cli.commands.tune",
    "ablate": "learned_opt_lab.cli.commands.ablate",
    "reproduce": "learned_opt_lab.cli.commands.reproduce",
    "variance": "learned_opt_lab.cli.commands.variance",
    "bench": "learned_opt_lab.cli.commands.bench",
    "watch": "learned_opt_lab.cli.looking.watch",
    "compare": "learned_opt_lab.cli.looking.compare",
}
GOES_ON = ("resume", "evaluate", "tune", "ablate", "reproduce")
"""Commands that, given again, go on where they were interrupted."""
EXTRAS = {
    "train": [
        "flax",
        "jaxtyping",
        "jinja2",
        "markupsafe",
        "matplotlib",
        "orbax",
        "rich",
        "scipy",
        "sklearn",
        "tensorboardX",
        "vl_convert",
    ],
    "tfds": ["PIL", "array_record", "grain", "tensorflow_datasets"],
    "ray": ["ray"],
}
"""Extra of setup.cfg -> the modules that come with it."""
TRACEBACK = "LEARNED_OPT_TRACEBACK"
"""Set in the environment, every error is shown with its traceback."""
_SEE_TRACEBACK = f"a bug, or a limit of a library; {TRACEBACK}=1 shows the traceback"
MAX_ERROR_LINES = 5
MAX_COLUMNS = 400
BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit status.

    0: all its work is done. 2: bad input, or a place that cannot be read or written. 1: it failed
    otherwise. 130: it was interrupted. What went wrong is told on standard error in at most five
    lines. Nobody needs to read what it prints: it goes on with its work when the reader is gone.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with surroundings.outputs() as written:
        status = _run(argv)
        sys.stdout.flush()
        lost = next((output.failure for output in written if output.failure), None)
        if lost and status == 0:
            print(
                f"error: what this command printed could not all be written: {lost}",
                file=sys.stderr,
            )
            return FAILED
    return status


def _run(argv: list[str]) -> int:
    try:
        surroundings.prepare()
        return _dispatch(argv)
    except KeyboardInterrupt:
        _, words = output.mode_of(argv)
        again = "; the same command goes on" if words[:1] and words[0] in GOES_ON else ""
        print(f"interrupted{again}", file=sys.stderr)
        return INTERRUPTED
    except (Exception, SystemExit) as error:
        # Whatever a library raises: never a page of tracebacks, nor a silent 0.
        if os.environ.get(TRACEBACK):
            raise
        try:
            status, lines = explain(error)
        except Exception:  # an error of a user's that has no text, for example
            status, lines = FAILED, [f"error: {_shown(type(error).__name__)}: {_SEE_TRACEBACK}"]
        print("\n".join(lines), file=sys.stderr)
        return status


def explain(error: BaseException) -> tuple[int, list[str]]:
    """The exit status after an error, and at most five lines that say what is wrong."""
    lines = [_shown(line) for line in str(error).splitlines() if line.strip()]
    first, *rest = lines or [type(error).__name__]
    lowered = str(error).lower()
    if (
        isinstance(error, MemoryError)
        or "resource_exhausted" in lowered
        or "out of memory" in lowered
    ):
        return FAILED, [f"error: there is not enough memory for this: {first}"]
    if _is_of_jax_starting(error):
        asked = os.environ.get("JAX_PLATFORMS")
        reason = first if lines else "there is no such backend here"
        return BAD_INPUT, [
            f"error: JAX cannot start{f' with JAX_PLATFORMS={_shown(asked)}' if asked else ''}: "
            f"{reason}"
        ]
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name)):
        return FAILED, [f'error: {error.name} is not installed: pip install "learned-opt[{extra}]"']
    if isinstance(error, ValueError | OSError):
        rest += _hidden_modules(str(error))
        return BAD_INPUT, [f"error: {first}", *rest[: MAX_ERROR_LINES - 1]]
    if lines:
        first = f"{type(error).__name__}: {first}"
    return FAILED, [f"error: {first} ({_SEE_TRACEBACK})"]


def _is_of_jax_starting(error: BaseException) -> bool:
    """Whether JAX found no backend: it says so, or fails an assertion without a word."""
    lowered = str(error).lower()
    if isinstance(error, RuntimeError):
        return "unable to initialize backend" in lowered or "unknown backend" in lowered
    if not isinstance(error, AssertionError) or lowered or "jax" not in sys.modules:
        return False
    try:
        sys.modules["jax"].devices()
    except Exception:  # the same assertion
        return True
    return False


def _shown(line: str) -> str:
    """A line without control characters, cut where it is endless."""
    return text.plain(line if len(line) <= MAX_COLUMNS else f"{line[: MAX_COLUMNS - 3]}...")


def _extra_of(module: str | None) -> str | None:
    """The extra with which a module comes that is not installed."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if package in modules), None)


def _hidden_modules(text: str) -> list[str]:
    """What is to be said where a user's own module has the name of another."""
    module = sys.modules.get("learned_opt_lab.runs.user_path")
    return module.hidden_modules(text) if module else []


def commands() -> dict[str, str]:
    """The subcommands of this version, name -> module."""
    return {name: module for name, module in COMMANDS.items() if importlib.util.find_spec(module)}


def version() -> str:
    """The version, from the one file of `learned_opt` that tells it: the package imports JAX."""
    from learned_opt_lab.cli.completion import folder_of

    return runpy.run_path(str(folder_of("learned_opt") / "version.py"))["__version__"]


def _of_no_command(option: str, arguments: list[str], mode: output.Mode) -> int | None:
    """Answers an option in the place of a command; None for others."""
    from learned_opt_lab.cli import shells

    if option == "--version":
        found = output.Outcome(found={"version": version()}, line=f"learned-opt {version()}")
    elif option == "--show-completion":
        script = shells.script(shells.chosen(arguments))
        found = output.Outcome(found={"script": script})
        if not mode.as_json:
            print(script, end="")
    elif option == "--install-completion":
        path, startup = shells.install(shells.chosen(arguments))
        said = f"{startup} reads {path}; Tab completes in the next shell you start"
        found = output.Outcome(found={"files": [path, startup]}, line=said)
    else:
        return None
    return output.end(mode, option.lstrip("-"), found)


def _dispatch(argv: list[str]) -> int:
    known = commands()
    if argv[:1] == ["--complete"]:  # what the shells' scripts call; flags are among the words
        from learned_opt_lab.cli import completion

        sys.stdout.writelines(f"{word}\n" for word in completion.candidates(argv[1:], known))
        return 0
    mode, words = output.mode_of(argv)
    is_option = bool(words) and words[0].startswith("--")
    if is_option and (status := _of_no_command(words[0], words[1:], mode)) is not None:
        return status
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(_usage(known))
        return 0 if words else BAD_INPUT
    from learned_opt_lab.cli.parsing import ASKS_FOR_HELP, HelpShown, parse
    from learned_opt_lab.runs import catalog

    name, *rest = words
    if name not in known:
        raise ValueError(catalog.unknown("command", name, known))
    prog = f"learned-opt {name}"
    # A config of the user's is run while words are read, and may print. Help is what was asked for.
    asks_for_help = any(word in ASKS_FOR_HELP for word in rest)
    with output.directed(output.Mode() if asks_for_help else mode):
        module = importlib.import_module(known[name])
        read = getattr(module, "parse", None) or (lambda *words: parse(module.Args, *words))
        try:
            args = read(rest, prog)
        except HelpShown:
            return 0
        outcome = module.run(args)
    return output.end(mode, name, outcome)


def _usage(known: dict[str, str]) -> str:
    """The list of subcommands with the summary of each module's docstring."""
    from learned_opt_lab.cli.listing.docstrings import summary_of

    lines = ["usage: learned-opt COMMAND ...", ""]
    for name, module in known.items():
        summary = summary_of(module)
        lines.append(f"  {name:<10} {summary.split(': ', 1)[-1]}".rstrip())
    options = (
        "  --version                        print the version",
        "  --install-completion [bash|zsh]  complete commands and names on Tab",
        "  --show-completion [bash|zsh]     print the script that does",
    )
    last = "`learned-opt COMMAND --help` explains what is used most, or all that there is."
    return "\n".join([*lines, "", *options, "", last])


if __name__ == "__main__":
    sys.exit(main())
