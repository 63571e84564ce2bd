"""Tab completes commands and names in bash and zsh, without JAX; `--version` tells the version."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import learned_opt
from learned_opt_lab.cli import completion, shells
from learned_opt_lab.cli.commands.train import Args as Train
from learned_opt_lab.cli.listing import tables
from learned_opt_lab.cli.listing.command import SECTIONS
from learned_opt_lab.cli.main import commands, main
from learned_opt_lab.cli.parsing import parse_with_config
from learned_opt_lab.evaluation.baselines import BASELINES
from learned_opt_lab.runs.catalog import CONFIGS
from outer_train.run import trackers
from tasks.suites import SUITES
from tests.support.lab.names import collect

ROOT = Path(__file__).parents[3]
LINES = {
    "tr": ["train"],
    "train quick": ["quickstart"],
    "train mine": [],
    "resume ": ["runs/first", "runs/of two"],
    "evaluate general --suite real": ["real", "real_quick"],
    "evaluate general_": ["general_es"],
    "tune prod": ["prodigy"],
    "list conf": ["configs"],
    "reproduce offline": ["offline_smd"],
}
"""What is typed -> what Tab offers."""
BASH = """
source <(learned-opt --show-completion bash)
compopt() { :; }  # what it asks of Readline is for a terminal
complete -p learned-opt >&2
offer() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _learned_opt learned-opt; printf '%s;' "${COMPREPLY[@]}"; echo
}
"""
ZSH = """
compdef() { [[ "$*" == "_learned_opt learned-opt" ]] && print -u2 "$@" }
compadd() { shift; printf '%s;' "$@" }
_files() { printf ';' }
source <(learned-opt --show-completion zsh)
offer() { words=("$@"); CURRENT=$#; _learned_opt; echo }
"""


def candidates(*words: str) -> list[str]:
    return completion.candidates(words, commands())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with two runs in `runs`, and the command on the path."""
    for name in ("first", "of two", "no_run"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("first", "of two"):
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    command = tmp_path / "bin" / "learned-opt"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m learned_opt_lab.cli.main "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_names_are_those_of_the_tables():
    assert tables.read() == collect(), "python -m tests.support.lab.names"
    assert candidates("evaluate", "--suite", "") == list(SUITES)
    assert candidates("tune", "") == list(BASELINES)
    assert candidates("train", "quadratic", "--optimizer.name", "") == list(
        learned_opt.catalog.OPTIMIZERS
    )
    assert candidates("list", "") == ["all", *SECTIONS]
    assert candidates("train", "quadratic", "--tracker", "") == list(trackers.TRACKERS)
    assert candidates("train", "") == sorted(CONFIGS)
    shipped = candidates("variance", "quickstart", "--theta", "")
    assert shipped[: len(learned_opt.pretrained_names())] == learned_opt.pretrained_names()


@pytest.mark.parametrize(("shell", "start"), [("bash", BASH), ("zsh", ZSH)])
def test_a_shell_completes(shell, start, folder):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    # A word that is not finished, perhaps empty, is the last one.
    offers = "\n".join(
        f"offer learned-opt {line}{chr(34) * 2 if line.endswith(' ') else ''}" for line in LINES
    )
    done = subprocess.run(
        [shell, "-c", start + offers], capture_output=True, text=True, check=False
    )
    assert "_learned_opt learned-opt" in done.stderr
    found = [line.strip(";") for line in done.stdout.splitlines()]
    assert found == [";".join(offered) for offered in LINES.values()]


HOSTILE = ("a$(touch pwned)", "b c", "d;touch pwned", "e'f", 'g"h', "i`touch pwned`", "j&k|l")
"""Names of runs that a shell would take for more than a name."""


@pytest.mark.parametrize("before", ["", "compopt() { return 1; }; "], ids=["bash", "bash 3"])
@pytest.mark.parametrize("inside", ["", "runs/"])
def test_bash_inserts_a_name_as_a_name(before, inside, folder):
    for name in (*HOSTILE, "line\n$(touch pwned)"):
        (folder / inside / name).mkdir()
        (folder / inside / name / "config.json").write_text("{}")
    assert f"{inside}a$(touch pwned)" in candidates("resume", inside)
    assert not [name for name in candidates("resume", inside) if "line" in name]
    command, said = folder / "bin" / "learned-opt", folder / "said"
    asks = 'if [ "$1" = resume ]; then printf "%s\\n" "$2" >>said; exit; fi'
    command.write_text(command.read_text().replace("exec", f"{asks}\nexec"))
    typed = "".join(f"learned-opt resume {inside}{name[0]}\t\n" for name in HOSTILE)
    of_terminal(f"{before}source <(learned-opt --show-completion bash)\n{typed}exit\n")
    found = [line.rstrip("/") for line in said.read_text().splitlines()]
    assert found == [f"{inside}{name}" for name in HOSTILE]
    assert not (folder / "pwned").exists()


def of_terminal(typed: str) -> None:
    """Types into a bash of its own, as a user does, until it ends."""
    ours, theirs = os.openpty()
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with subprocess.Popen(shell, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        with contextlib.suppress(OSError):  # so a terminal tells its end
            while os.read(ours, 4096):
                pass
        process.wait(60)
    os.close(ours)


def test_no_jax_is_imported(folder):
    lines = [line.split(" ") for line in LINES]
    lines += [["variance", "quickstart", "--estimators", "f"], ["train", "quickstart", "--see"]]
    lines += [["evaluate", "--le"], ["reproduce", "offline_smd", "--ov"]]
    code = f"""
import sys
from learned_opt_lab.cli.main import main
for words in {lines}:
    assert main(["--complete", *words]) == 0, words
    assert "jax" not in sys.modules, words
assert main(["--version"]) == 0
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"full_es", "--seed", "--leagues", "--overwrite"} <= set(done.stdout.split())
    assert done.stdout.splitlines()[-1] == f"learned-opt {learned_opt.__version__}"


def test_flags_and_their_values():
    assert candidates("evaluate", "--suite", "=", "real_") == ["real_quick"]  # as bash has it
    assert candidates("evaluate", "--suite=real_") == ["--suite=real_quick"]  # as zsh has it
    assert candidates("train", "quickstart", "--engine", "r") == ["ray"]
    assert candidates("train", "quickstart", "--out", "") == []  # files are meant
    assert candidates("train", "quickstart", "") == []
    assert candidates("train", "quickstart", "--swe") == ["--sweep"]
    assert candidates("train", "quickstart", "--see") == ["--seed", "--seeds"]
    assert candidates("list", "--js") == ["--json"]
    assert candidates("evaluate", "--no-") == ["--no-compilation-cache"]
    assert candidates("train", "quickstart", "--num-outer") == ["--num-outer-steps"]
    assert candidates("train", "quadratic", "--estimator.no-") == ["--estimator.no-stagger"]
    parse_with_config(Train, ["quadratic", "--estimator.no-stagger"], "train")
    assert candidates("unknown", "") == candidates("unknown", "--") == []
    assert candidates("--show-completion", "") == list(completion.SHELLS)
    assert candidates()[: len(commands())] == list(commands())


def test_no_file_of_the_users_is_run(folder):
    (folder / "mine.py").write_text("raise SystemExit('it was run')")
    assert candidates("train", "mine.py", "--num-outer") == ["--num-outer-steps"]


@pytest.mark.parametrize(("shell", "startup"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_it_is_installed_once(shell, startup, tmp_path, monkeypatch, capsys):
    for name in ("XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    (tmp_path / startup).write_text("# mine")
    for _ in range(2):
        assert main(["--install-completion"]) == 0
    script = tmp_path / ".local" / "share" / "learned-opt" / f"completion.{shell}"
    assert script.read_text() == shells.script(shell)
    assert (tmp_path / startup).read_text() == f"# mine\nsource {script}\n"
    assert str(tmp_path / startup) in capsys.readouterr().out


@pytest.mark.parametrize("before", [b"# caf\xe9\n", b"# caf\xe9"])
def test_a_start_up_file_of_any_encoding(before, tmp_path, monkeypatch, capsys):
    for name in ("XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_bytes(before)
    for _ in range(2):
        assert main(["--install-completion", "bash"]) == 0
    script = tmp_path / ".local" / "share" / "learned-opt" / "completion.bash"
    assert (tmp_path / ".bashrc").read_bytes() == b"# caf\xe9\nsource %b\n" % bytes(script)


@pytest.mark.parametrize("arguments", [["fish"], ["bash", "zsh"], []])
def test_other_shells_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main(["--install-completion", *arguments]) == 2
    assert "completion is for bash or zsh" in capsys.readouterr().err
