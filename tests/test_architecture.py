"""The packages import one way (see CONTRIBUTING.md), and setup.cfg lists exactly those that exist."""

import ast
import configparser
import fnmatch
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {
    "tasks": set(),
    "learned_opt": set(),
    "outer_train": {"tasks", "learned_opt"},
    "configs": set(),
    "learned_opt_lab": {"tasks", "learned_opt", "outer_train", "configs"},
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


def data_files() -> set[Path]:
    """Files of the packages that are no modules: weights, cards, templates."""
    files = (path for package in BELOW for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT) for path in files if path.suffix != ".py" and "__pycache__" not in path.parts}


def test_setup_cfg_ships_the_data_files():
    """Weights and templates that are read at run time lie in the wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = {k: [p.strip() for p in v.split(",")] for k, v in setup["options.package_data"].items()}
    left_out = [
        str(path)
        for path in data_files()
        if not any(fnmatch.fnmatch(path.name, p) for p in patterns.get(".".join(path.parent.parts), ()))
    ]
    assert left_out == []
    assert any(path.suffix == ".npz" for path in data_files())


@pytest.mark.slow
def test_the_wheel_is_whole(tmp_path):
    """Each module and each data file, and nothing of the tests."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT) for package in BELOW for path in (ROOT / package).rglob("*.py")}
    assert names == {path.as_posix() for path in modules | data_files()}
