"""Other Pythons, and the oldest libraries that setup.cfg allows:
a part of the tests passes there.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OLDEST = ROOT / "tests" / "oldest.txt"
VERSIONS = ("3.11", "3.12", "3.13")
SUBSET = (
    "tests/learned_opt/by_kind",
    "tests/learned_opt/test_composition.py",
    "tests/learned_opt/test_sharding.py",
    "tests/learned_opt/test_state_dtype.py",
    "tests/learned_opt/disk/test_serialization.py",
    "tests/learned_opt/per_parameter/test_mlp.py",
    "tests/outer_train/estimators/test_merged.py",
    "tests/outer_train/run/test_loop.py",
    "tests/outer_train/run/test_checkpoint.py",
    "tests/learned_opt_lab/cli/test_surroundings.py",
    "tests/learned_opt_lab/evaluation/page",
    "tests/modes/test_modes.py",
)


OLD_WARNINGS = [
    part
    for name in ("jax.array_ref", "jax.ArrayRef", "jax.core", "jax.interpreters")
    for part in ("-W", f"ignore:{name}:DeprecationWarning")
]
"""What the oldest Flax and the newest Equinox and Haiku ask of the oldest JAX."""


def bounds() -> dict[str, str]:
    """Library -> the oldest version that setup.cfg allows, where it names one."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = (setup["options"]["install_requires"], *setup["options.extras_require"].values())
    return dict(re.findall(r"^([\w-]+)>=([\d.]+)$", "\n".join(lists), re.MULTILINE))


def parts(version: str) -> tuple[int, ...]:
    """`0.8.0` is `0.8`."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_the_constraints_are_the_bounds():
    pinned = dict(line.split("==") for line in OLDEST.read_text(encoding="utf-8").split())
    libraries = ("jax", "flax", "optax", "orbax-checkpoint")
    assert {name: parts(pinned[name]) for name in libraries} == {
        name: parts(bounds()[name]) for name in libraries
    }


def interpreter(version: str) -> str | None:
    """On the path, or below a pyenv's folder, PYENV_ROOT or ~/.pyenv."""
    found = shutil.which(f"python{version}")
    # A pyenv's shim is on the path for versions that are not chosen, too, and fails then.
    if found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        return found
    root = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    found = sorted((root / "versions").glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else None


def passes(
    python: str, directory: Path, constraints: Sequence[str] = (), warnings: Sequence[str] = ()
) -> None:
    """Makes a fresh environment and runs the subset in it."""
    subprocess.run([python, "-m", "venv", str(directory)], check=True)
    mine = str(directory / "bin" / "python")
    pip = [mine, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints]
    subprocess.run([*pip, f"{ROOT}[test]"], check=True)
    # The wheel's packages, not the checkout's, are what other folders see;
    # the tests read the checkout's.
    subprocess.run(
        [mine, "-c", "import learned_opt; learned_opt.load()"], check=True, cwd=directory
    )
    done = subprocess.run(
        [mine, "-m", "pytest", "-x", "-m", "not slow", *warnings, *SUBSET],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_pythons(version, tmp_path):
    if (python := interpreter(version)) is None:
        pytest.skip(f"no python{version} on the path or below PYENV_ROOT")
    passes(python, tmp_path / "environment")


@pytest.mark.slow
def test_the_oldest_libraries(tmp_path):
    if (python := interpreter(VERSIONS[0])) is None:
        pytest.skip(f"no python{VERSIONS[0]} on the path or below PYENV_ROOT")
    passes(python, tmp_path / "environment", ("--constraint", str(OLDEST)), OLD_WARNINGS)


@pytest.mark.slow
def test_learned_opt_needs_jax_and_optax_only(tmp_path):
    """The wheel alone beside them loads an optimizer and trains.

    The command says which extra it needs.
    """
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "environment")], check=True)
    mine = tmp_path / "environment" / "bin"
    pip = [str(mine / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "jax", "optax"], check=True)
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    update = (
        "import learned_opt, jax; tx = learned_opt.load(); w = jax.numpy.ones(3); "
        "print(tx.update(w, tx.init(w), w))"
    )
    subprocess.run([str(mine / "python"), "-c", update], check=True, cwd=tmp_path)
    done = subprocess.run(
        [str(mine / "learned-opt"), "train", "quickstart"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].endswith('pip install "learned-opt[train]"')
