"""What the tutorials say, in a clone and an environment that have nothing else."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"train": "--num-outer-steps 20", "evaluate": "--max-minutes 0.1"}
"""Command -> what makes it short: all of it takes an hour."""


def commands(page: Path) -> list[str]:
    """The lines of a page's fences of the shell, each a whole command."""
    fences = re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(fences).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


def shortened(line: str) -> str:
    name = line.split()[1]
    assert line.startswith("learned-opt "), line
    return f"{line} {SHORT.get(name, '')}"


def test_every_tutorial_has_commands_that_are_known():
    found = [line for page in (ROOT / "docs" / "tutorials").glob("*.md") for line in commands(page)]
    assert {line.split()[1] for line in map(shortened, found)} == SHORT.keys()


@pytest.mark.slow
def test_the_tutorials_in_a_fresh_clone_and_environment(tmp_path):
    if subprocess.run(["git", "-C", ROOT, "rev-parse"], capture_output=True).returncode:
        pytest.skip("this is no clone of git")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    bare = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_PLUGINS")}
    # Every cell of every tutorial runs when the site is made, and a warning is an error.
    subprocess.run(["make", "docs"], cwd=clone, env=bare, check=True)
    assert (clone / "build" / "site" / "tutorials" / "first_run.html").exists()
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{bare['PATH']}"
    for page in sorted((clone / "docs" / "tutorials").glob("*.md")):
        for line in commands(page):
            subprocess.run(
                shortened(line), shell=True, cwd=clone, env=bare | {"PATH": path}, check=True
            )
    assert (clone / "runs" / "quickstart" / "summary.json").exists()
