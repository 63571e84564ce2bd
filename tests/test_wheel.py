"""setup.cfg forgets no package and no file of data, and the wheel holds no more."""

import configparser
import fnmatch
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.rules import BELOW, ROOT, SOURCES


def test_setup_cfg_lists_the_folders():
    """No package is forgotten in the wheel, and tests are left out."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    assert listed == {
        name.removesuffix(".__init__") for name in SOURCES if name.endswith(".__init__")
    }
    assert {name.partition(".")[0] for name in listed} == set(BELOW)


def data_files() -> set[Path]:
    """Files of the packages that are no modules: weights, cards, templates."""
    files = (path for package in BELOW for path in (ROOT / package).rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT)
        for path in files
        if path.suffix != ".py" and "__pycache__" not in path.parts
    }


def test_setup_cfg_ships_the_data_files():
    """Weights and templates that are read at run time lie in the wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = {
        k: [p.strip() for p in v.split(",")] for k, v in setup["options.package_data"].items()
    }
    left_out = [
        str(path)
        for path in data_files()
        if not any(
            fnmatch.fnmatch(path.name, p) for p in patterns.get(".".join(path.parent.parts), ())
        )
    ]
    assert left_out == []
    assert any(path.suffix == ".npz" for path in data_files())


@pytest.mark.slow
def test_the_wheel_is_whole(tmp_path):
    """Each module and each data file, and nothing of the tests."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {
        path.relative_to(ROOT) for package in BELOW for path in (ROOT / package).rglob("*.py")
    }
    assert names == {path.as_posix() for path in modules | data_files()}
