"""What a run is made with: Python, libraries, the project's commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

LIBRARIES = ("learned-opt", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, Any]:
    """Versions of Python and of the libraries that matter,
    and the project's git commit if it is a checkout.
    """
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **found,
        "git": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the checkout this file lies in, `-dirty` if it has changes,
    or None outside of one.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        describe = "describe --always --dirty --abbrev=40 --exclude=*"
        command = ["git", "-C", str(root), *describe.split()]
        found = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10
        )
        return found.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
