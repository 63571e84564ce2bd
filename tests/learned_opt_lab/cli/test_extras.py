"""Without an extra the command ends with one line that says which to install."""

import ast
import configparser
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from learned_opt_lab.cli.main import EXTRAS, explain

ROOT = Path(__file__).parent.parent.parent.parent
PACKAGES = ("configs", "learned_opt", "learned_opt_lab", "outer_train", "tasks")
SCRIPT = """
import sys

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "orbax":
            raise ModuleNotFoundError("No module named 'orbax'", name="orbax")

sys.meta_path.insert(0, Blocker)
from learned_opt_lab.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("argv", [["train", "quickstart"], ["resume", "."]])
def test_the_command_names_the_extra(argv):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == 'error: orbax is not installed: pip install "learned-opt[train]"\n'
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("module", "extra"),
    [("orbax.checkpoint", "train"), ("tensorflow_datasets", "tfds"), ("ray", "ray")],
)
def test_every_extra_is_named(module, extra):
    status, (line,) = explain(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert (status, line) == (
        1,
        f'error: {module} is not installed: pip install "learned-opt[{extra}]"',
    )


def test_other_modules_are_no_extra():
    _, (line,) = explain(ModuleNotFoundError("No module named 'their_module'", name="their_module"))
    assert "pip install" not in line


def test_the_extras_hold_what_the_packages_import():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    listed = {
        extra: set(re.findall(r"^[\w-]+", text, re.MULTILINE)) for extra, text in lists.items()
    }
    owners = importlib.metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        for module in modules:
            assert {name.lower() for name in owners.get(module, [])} & {
                n.lower() for n in listed[extra]
            }, module
    known = {
        "jax",
        "numpy",
        "optax",
        *PACKAGES,
        *(module for modules in EXTRAS.values() for module in modules),
    }
    assert imported() - known - set(sys.stdlib_module_names) == set()


def imported() -> set[str]:
    """Top-level modules that the packages import, at any depth of their code."""
    found = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {name.partition(".")[0] for name in names}
    return found
