"""The notebook, executed from its first cell to its last in a fresh kernel,
with fewer outer steps.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = (
    Path(__file__).parent.parent.parent / "examples" / "from_nothing_to_a_trained_optimizer.ipynb"
)
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
here = {"metadata": {"path": "."}}
NotebookClient(notebook, timeout=600, kernel_name="python3", resources=here).execute()
nbformat.write(notebook, sys.argv[2])
"""


def text_of(notebook: dict) -> str:
    """All that its code cells printed."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", [])) for output in outputs)


def test_it_runs_from_nothing(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    # A process of its own: a kernel's client opens sockets and event loops,
    # whose warnings would be errors here.
    environment = os.environ | {"NUM_OUTER_STEPS": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(tmp_path / "out.ipynb")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    notebook = json.loads((tmp_path / "out.ipynb").read_text())
    shown = text_of(notebook)
    assert len(re.findall(r"mean test loss [\d.]+", shown)) == 4
    losses = {
        name: float(loss)
        for name, loss in re.findall(r"^(\S+) +mean test loss ([\d.]+)", shown, re.MULTILINE)
    }
    assert losses["adam_tuned"] < losses["untrained"]
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert (tmp_path / "my_optimizer.npz").exists()


def test_it_is_committed_with_the_outputs_of_a_run():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    shown = text_of(notebook)
    losses = {
        name: float(loss)
        for name, loss in re.findall(r"^(\S+) +mean test loss ([\d.]+)", shown, re.MULTILINE)
    }
    assert losses["learned"] < 0.5 * losses["untrained"]
    assert losses["learned"] < losses["adam_1e-3"]
    images = [
        o
        for c in notebook["cells"]
        for o in c.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    assert len(images) == 2
