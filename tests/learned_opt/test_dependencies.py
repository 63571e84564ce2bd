"""`learned_opt` needs JAX, Optax and NumPy, and what those need:
nothing else is imported to load and to update.
"""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NEEDED = {"jax", "numpy", "optax"}
SCRIPT = """
import sys

allowed = set(sys.argv[1:])

class Hides:
    # By it only what is allowed is found: JAX itself looks for optional modules.

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        standard = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        return self.finder.find_spec(name, path, target) if standard or top in allowed else None

sys.meta_path[:] = [Hides(finder) for finder in sys.meta_path]
import jax
import learned_opt

optimizer = learned_opt.load()
params = {"w": jax.numpy.ones(3)}
step = jax.jit(lambda params: optimizer.update(params, optimizer.init(params), params)[0])
assert bool((abs(step(params)["w"]) > 0).all())
assert not {"configs", "learned_opt_lab", "outer_train", "tasks"} & set(sys.modules)
print("updated")
"""


def modules_of(distributions: set[str]) -> set[str]:
    """Top-level modules of installed distributions and of what they require."""
    found, left = set(), list(distributions)
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        left += [
            re.match(r"[\w.-]+", line).group().lower()
            for line in required
            if "extra ==" not in line
        ]
    normal = {re.sub(r"[-_.]+", "-", name) for name in found}
    owners = importlib.metadata.packages_distributions()
    return {
        module
        for module, names in owners.items()
        if {re.sub(r"[-_.]+", "-", n.lower()) for n in names} & normal
    }


def test_it_loads_and_updates_with_nothing_else():
    allowed = {"learned_opt", *modules_of(NEEDED)}
    assert not {"flax", "matplotlib", "orbax"} & allowed
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sorted(allowed)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "updated\n", done.stderr[-2000:]


def test_it_names_nothing_else():
    """What jax or optax bring along may change."""
    found = {}
    for path in sorted((ROOT / "learned_opt").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {name.partition(".")[0]: path.name for name in names}
    others = {name: file for name, file in found.items() if name not in sys.stdlib_module_names}
    assert set(others) == NEEDED | {"learned_opt"}, others
