"""Which version of the library this is.

Imports nothing of it: the command runs this file alone, and answers without JAX.
"""

import re
from pathlib import Path

_LINE = re.compile(r"^name = learned-opt\nversion = (\S+)$", re.MULTILINE)


def _of_source_tree(root: Path) -> str | None:
    """The version in setup.cfg; None where packages lie that were installed from elsewhere."""
    try:
        found = _LINE.search((root / "setup.cfg").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found and found[1]


def _installed() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("learned-opt")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


__version__ = _of_source_tree(Path(__file__).resolve().parents[1]) or _installed()
