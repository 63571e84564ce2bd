"""The packages import one way (see CONTRIBUTING.md), and setup.cfg lists exactly those that exist."""

import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {
    "tasks": set(),
    "learned_opt": set(),
    "outer_train": {"tasks", "learned_opt"},
    "evaluation": {"tasks", "learned_opt", "outer_train"},
    "experiments": {"tasks", "learned_opt", "outer_train", "evaluation"},
    "configs": {"tasks", "learned_opt", "outer_train", "evaluation"},
    "benchmarks": {"tasks", "learned_opt", "outer_train", "evaluation", "experiments", "configs"},
    "cli": {"tasks", "learned_opt", "outer_train", "evaluation", "experiments", "configs", "benchmarks"},
}
"""Package -> packages it may import, beside itself."""


def imported_packages(path: Path) -> set[str]:
    """Top-level names that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", BELOW)
def test_imports_run_one_way(package):
    """A package names only those below it."""
    above = set(BELOW) - BELOW[package] - {package}
    wrong = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in (ROOT / package).rglob("*.py")
        if (found := imported_packages(path) & above)
    }
    assert wrong == {}


def test_the_order_has_no_cycle():
    """Whoever is below is not above."""
    for package, below in BELOW.items():
        assert all(package not in BELOW[other] for other in below)


def test_setup_cfg_lists_the_folders():
    """No package is forgotten in the wheel, and tests are left out."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for package in BELOW
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == folders
    assert not any(name.startswith("tests") for name in listed)
