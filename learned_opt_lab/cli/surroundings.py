"""What a command finds around it, made fit to work in:
open descriptors, streams that take everything, a home.
"""

import atexit
import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOWHERE = "/dev/null/home"
"""A home in which nothing can be made."""


def prepare() -> None:
    """Makes this process fit for work.

    Raises:
      OSError: the working directory is gone.
    """
    _open_descriptors()
    try:
        os.getcwd()
    except OSError as error:
        raise OSError(
            "the working directory does not exist any more; change into one that does"
        ) from error
    _working_directory_last()
    _have_a_home()
    _leave_late_calls_unsaid()


def _leave_late_calls_unsaid() -> None:
    """Says nothing of calls that come back to an event loop that has ended.

    After a checkpoint that could not be written, those of Orbax's other files still come. Python
    would print a traceback for each below the one line that tells the error.
    """
    told = sys.unraisablehook
    if told.__module__ == __name__:
        return

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            told(unraisable)

    sys.unraisablehook = hook


def _working_directory_last() -> None:
    """Looks for modules in the working directory last.

    `python -m` and a `PYTHONPATH` look there first: a `secrets.py` in it would be imported by
    libraries.
    """
    root = str(Path(__file__).resolve().parents[2])
    here = [
        entry for entry in sys.path if entry != root and Path(entry or ".").resolve() == Path.cwd()
    ]
    sys.path[:] = [*(entry for entry in sys.path if entry not in here), *here]


def _open_descriptors() -> None:
    """Opens what is closed of standard input, output and error.

    Otherwise the next file opened would become standard output, and what a library prints would go
    into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  It stays open.


def _have_a_home() -> None:
    """Gives this process a home of its own where there is none,
    and Matplotlib a folder where it can make none.
    """
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the table of users
        home = Path(_own_folder())
        os.environ["HOME"] = str(home)
    if not os.environ.get("MPLCONFIGDIR"):
        configs = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        if not can_write(configs / "matplotlib"):
            os.environ["MPLCONFIGDIR"] = _own_folder()


def _own_folder() -> str:
    """A folder of this process, removed at its end;
    where none can be made, a path where nothing can.
    """
    try:
        folder = tempfile.mkdtemp(prefix="learned-opt-")
    except OSError:
        return NOWHERE
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def compilation_cache() -> str | None:
    """Where JAX keeps compiled programs; None, with a warning, where nothing can be kept."""
    folder = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "learned-opt" / "jax"
    )
    # A cache that fails later, on a full disk, costs time only; JAX would warn once a program.
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    if can_write(folder):
        return str(folder)
    print(
        f"warning: nothing can be written to {folder}; compiled programs are not kept",
        file=sys.stderr,
    )
    return None


def prepare_jax(keep_programs: bool) -> None:
    """Sets what a command wants of JAX:
    silent threads, and the cache of compiled programs if it keeps them.
    """
    import jax

    # What fails in Orbax is raised to us; it also logs the whole traceback of its threads.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if keep_programs:
        jax.config.update("jax_compilation_cache_dir", compilation_cache())
        # JAX keeps only what took a second to compile;
        # the many small programs of a start take as long together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def start_jax(num_devices: int | None, keep_programs: bool) -> None:
    """As `prepare_jax`, and sets how many CPU devices there are;
    call it before anything runs on JAX.
    """
    from outer_train import use_cpu_devices

    use_cpu_devices(num_devices)
    prepare_jax(keep_programs)


def can_write(directory: Path) -> bool:
    """Whether a file can be made in `directory`, or it and its parents can; nothing stays behind.

    Asking for permissions is not enough: file systems are mounted read-only, full, or not there any
    more.
    """
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def check_writable(directory: Path) -> None:
    """Raises `OSError` where nothing can be written,
    before work is done whose results belong there.
    """
    if not can_write(directory):
        raise OSError(
            f"nothing can be written to {directory}; give another folder, or make room in it"
        )


class _Output(io.FileIO):
    """A descriptor that takes everything: work goes on when nobody reads what it prints."""

    failure: OSError | None = None

    def write(self, data) -> int:
        """Writes; what cannot be written is dropped, and the first reason kept."""
        try:
            return super().write(data)
        except BrokenPipeError:  # the reader has seen enough, as after `| head`
            return len(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = self.failure or error
            return len(data)


@contextlib.contextmanager
def outputs() -> Iterator[list[_Output]]:
    """Makes standard output and error take every character and never fail;
    yields their descriptors.

    A closed pipe or a full disk behind standard output would otherwise end a training in the
    middle.
    """
    before, made = (sys.stdout, sys.stderr), []
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        buffer = getattr(stream, "buffer", None)
        if isinstance(getattr(buffer, "raw", buffer), io.FileIO):
            with contextlib.suppress(OSError):
                stream.flush()
            made.append(_Output(stream.fileno(), "wb", closefd=False))
            setattr(sys, name, _text(made[-1], stream))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield made
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _text(raw: _Output, like: io.TextIOWrapper) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding,
        errors="backslashreplace",
        line_buffering=like.line_buffering,
        write_through=like.write_through,
    )
