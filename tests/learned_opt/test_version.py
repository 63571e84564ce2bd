"""`learned_opt.__version__` is that of the code which runs, installed or not."""

import configparser
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import learned_opt
from learned_opt import version

ROOT = Path(__file__).parents[2]


def of(file: Path, *paths: Path) -> str:
    """What `version.py` says there, in a process without our packages."""
    code = (
        f"import runpy, sys; sys.path += {list(map(str, paths))}; "
        f"print(runpy.run_path({str(file)!r})['__version__'])"
    )
    command = [sys.executable, "-S", "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_that_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert learned_opt.__version__ == setup["metadata"]["version"]
    assert "__version__" in learned_opt.__all__


def test_a_source_tree_comes_before_what_is_installed(tmp_path):
    (tmp_path / "learned_opt").mkdir()
    file = shutil.copy(version.__file__, tmp_path / "learned_opt")
    installed = tmp_path / "learned_opt-3.2.1.dist-info"
    assert of(file) == "unknown"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: learned-opt\nVersion: 3.2.1")
    assert importlib.metadata.Distribution.at(installed).version == "3.2.1"
    assert of(file, tmp_path) == "3.2.1"
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = other\nversion = 7.0\n")
    assert of(file, tmp_path) == "3.2.1"
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = learned-opt\nversion = 4.0.0\n")
    assert of(file, tmp_path) == "4.0.0"
