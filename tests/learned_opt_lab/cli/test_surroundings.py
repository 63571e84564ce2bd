"""Odd surroundings: no home, closed or broken streams,
narrow and plain terminals, no such backend.
"""

import importlib
import io
import os
import pwd
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from learned_opt_lab.cli import main as command_line
from learned_opt_lab.cli import surroundings
from learned_opt_lab.cli.main import COMMANDS, explain, main
from learned_opt_lab.runs import user_path

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch):
    """What a command changes of its process is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(user_path, "_directories", [])
    for name in ("HOME", "MPLCONFIGDIR"):  # recorded, so that they are restored
        monkeypatch.setenv(name, os.environ.get(name) or "/nowhere")
    monkeypatch.delenv("MPLCONFIGDIR")


def test_calls_that_come_back_to_an_ended_loop_are_unsaid(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable))
    surroundings.prepare()
    surroundings.prepare()  # wraps once
    late, other = RuntimeError("Event loop is closed"), RuntimeError("another")
    for error in (late, other):
        sys.unraisablehook(types.SimpleNamespace(exc_value=error))
    assert [unraisable.exc_value for unraisable in said] == [other]


def command(monkeypatch, name: str, run) -> int:
    """Runs a subcommand of which only the body is another."""
    module = importlib.import_module(COMMANDS[name])
    monkeypatch.setattr(module, "parse", lambda argv, prog: None, raising=False)
    monkeypatch.setattr(module, "run", run)
    return main([name])


def fail(error: BaseException):
    """The body of a command that fails."""

    def run(args):
        raise error

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_what_no_one_foresaw_is_one_line(name, monkeypatch, capsys):
    assert command(monkeypatch, name, fail(KeyError("a\n" * 100 + "\x1b[2J"))) == 1
    shown = capsys.readouterr().err
    assert re.fullmatch(
        r"error: KeyError: .*LEARNED_OPT_TRACEBACK=1 shows the traceback\)\n", shown
    )
    assert len(shown) < 600
    monkeypatch.setenv("LEARNED_OPT_TRACEBACK", "1")
    with pytest.raises(KeyError):
        command(monkeypatch, name, fail(KeyError("a")))


ERRORS = {
    "a library's": (
        RuntimeError("odd\nmore"),
        1,
        "error: RuntimeError: odd (a bug, or a limit of a library; ",
    ),
    "no text": (RecursionError(), 1, "error: RecursionError (a bug"),
    "memory of Python": (
        MemoryError(),
        1,
        "error: there is not enough memory for this: MemoryError",
    ),
    "memory of XLA": (
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 40000000000 bytes."),
        1,
        "error: there is not enough memory for this: RESOURCE_EXHAUSTED: Out of memory allocating "
        "4",
    ),
    "no such backend": (
        RuntimeError("Unable to initialize backend 'cuda': no GPU"),
        2,
        "error: JAX cannot start with JAX_PLATFORMS=cuda: Unable to initialize backend 'cuda'",
    ),
    "bad input": (ValueError("std must be\n\nabove 0"), 2, "error: std must be"),
    "a terminal's commands": (ValueError("\x1b]0;owned\x07 é"), 2, "error: \\x1b]0;owned\\x07 é"),
    "an endless line": (OSError("x" * 10_000), 2, "error: " + "x" * 300),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_told_in_lines(case, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    error, status, first = ERRORS[case]
    found, lines = explain(error)
    assert found == status
    assert lines[0].startswith(first)
    assert len(lines) <= 5
    assert all(line.isprintable() and len(line) < 600 for line in lines)


def stream(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    """A standard output of a command that is no terminal."""
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(descriptor, "wb", closefd=False)), encoding=encoding
    )


def printing(done: list) -> object:
    """A command that prints more than a buffer holds, twice, and works in between."""

    def run(args) -> int:
        print("x" * 100_000, flush=True)
        done.append("work")
        print("y" * 100_000, file=sys.stderr)
        return 0

    return run


@pytest.mark.parametrize("name", ["train", "list"])
def test_nobody_needs_to_read(name, monkeypatch):
    """`| head -1` is no reason to stop, nor to end with 0 in the middle."""
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", stream(writing))
    monkeypatch.setattr(sys, "stderr", stream(writing))
    before, done = sys.stdout, []
    assert command(monkeypatch, name, printing(done)) == 0
    assert done == ["work"]
    assert sys.stdout is before
    os.close(writing)


def test_a_pipe_that_breaks_elsewhere_is_no_success(monkeypatch, capsys):
    assert command(monkeypatch, "train", fail(BrokenPipeError(32, "Broken pipe"))) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_a_full_disk_behind_the_output_is_told_at_the_end(monkeypatch, capsys):
    full, done = os.open("/dev/full", os.O_WRONLY), []
    monkeypatch.setattr(sys, "stdout", stream(full))
    assert command(monkeypatch, "train", printing(done)) == 1
    assert done == ["work"]
    assert "could not all be written: [Errno 28] No space left" in capsys.readouterr().err
    os.close(full)


def test_streams_take_every_character(monkeypatch, tmp_path):
    target = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sys, "stdout", stream(target, "ascii"))

    def run(args) -> int:
        print("0.1 … 0.2 \ud800")
        return 0

    assert command(monkeypatch, "evaluate", run) == 0
    os.close(target)
    assert (tmp_path / "out").read_bytes() == b"0.1 \\u2026 0.2 \\ud800\n"


def test_closed_descriptors_are_not_given_to_files(tmp_path):
    """Otherwise what libraries print on descriptors 1
    and 2 would go into the next file that is opened.
    """
    code = (
        "from learned_opt_lab.cli.main import main; import os; from pathlib import Path\n"
        "status = main(['list', 'configs'])\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w'); file.write(f'{{file.fileno()}} {{status}}')"
    )
    shell = f'exec {sys.executable} -c "$1" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", shell, "sh", code], cwd=ROOT, check=True)
    descriptor, status = map(int, (tmp_path / "file").read_text().split())
    assert (descriptor > 2, status) == (True, 0)


def unknown_user(number: int):
    """The table of users has no entry."""
    raise KeyError(number)


def test_no_home(monkeypatch, capsys):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown_user)
    with pytest.raises(RuntimeError):
        Path.home()
    assert main(["list", "configs"]) == 0
    assert Path.home().is_dir()
    assert "quickstart" in capsys.readouterr().out


def test_no_place_for_a_home(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown_user)

    def mkdtemp(prefix):
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(surroundings.tempfile, "mkdtemp", mkdtemp)
    assert main(["list", "configs"]) == 0
    assert not surroundings.can_write(Path.home())


def test_matplotlib_gets_a_folder_where_it_can_make_none(monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    surroundings.prepare()
    assert surroundings.can_write(Path(os.environ["MPLCONFIGDIR"]))


def test_can_write_leaves_nothing(tmp_path):
    assert surroundings.can_write(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    assert not surroundings.can_write(Path("/proc/a/b"))
    assert not surroundings.can_write(Path("/dev/null/a"))


def test_a_working_directory_that_is_gone(monkeypatch, tmp_path, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["list"]) == 2
    assert capsys.readouterr().err == (
        "error: the working directory does not exist any more; change into one that does\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("platforms", ["cuda", "nonsense", "cpu,nonsense"])
def test_a_backend_that_is_not_there(platforms, tmp_path):
    """Each command that computes ends with one line; `list` needs none."""
    code = "import sys; from learned_opt_lab.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for line in (
        "train quadratic",
        "evaluate general --out out",
        "variance quadratic",
        "bench",
        "tune adam",
        "list",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *line.split()],
            cwd=tmp_path, env=os.environ | {"JAX_PLATFORMS": platforms, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if line == "list":
            assert done.returncode == 0
            continue
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"error: JAX cannot start with JAX_PLATFORMS={platforms}")
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_commands_is_whole():
    assert set(COMMANDS) == set(command_line.commands())
