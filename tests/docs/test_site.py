"""The site says what there is: every public name, field, command and figure has its place, and what
a page shows as code is code.
"""

import ast
import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from learned_opt_lab import runs
from learned_opt_lab.cli.main import COMMANDS
from learned_opt_lab.papers.registry import EXPERIMENTS
from tests.support.rules import ROOT, SOURCES, exported

DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
    if path.name != "package.md"  # what a package index shows
}
TUTORIALS = (
    "use_it",
    "first_run",
    "read_a_run",
    "your_own_tasks",
    "your_own_estimator",
    "judge_it",
)
FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
NEED_DATA = ("host_images_family",)
"""Examples that read a set which has to be prepared."""
RUNNABLE = ("guides/data_sets", "guides/parts_of_a_model", "guides/schedules", "tasks")
"""Guides whose Python runs from the first block to the last without a run on disk."""


def conf(monkeypatch, **environment):
    monkeypatch.setattr(os, "environ", {**os.environ, **environment})
    monkeypatch.setattr(sys, "path", [*sys.path])
    return runpy.run_path(str(DOCS / "conf.py"))


def from_code():
    """The part of the site's own extension that needs no Sphinx."""
    path = DOCS / "_extensions" / "from_code.py"
    spec = importlib.util.spec_from_file_location("from_code", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_loads_and_needs_no_network(monkeypatch):
    settings = conf(monkeypatch)
    assert settings["intersphinx_mapping"] == {}
    assert conf(monkeypatch, DOCS_ONLINE="1")["intersphinx_mapping"].keys() >= {"jax", "optax"}
    assert settings["nb_execution_mode"] == "cache"
    assert settings["nb_execution_raise_on_error"]
    extra = re.search(r"^docs =\n((?:    .*\n)+)", (ROOT / "setup.cfg").read_text(), re.M)[1]
    for extension in settings["extensions"]:
        name = extension.replace("_", "-")
        assert extension.startswith("sphinx.ext.") or extension == "house" or name in extra


def test_every_public_name_is_on_a_page():
    text = "\n".join(page for name, page in PAGES.items() if name.startswith("reference/"))
    text = text.replace("```{config-fields} ", "configs.base.")
    said = set(re.findall(r"[A-Za-z_][\w.]*\w", text))
    wanted = {
        f"{source.name.removesuffix('.__init__')}.{name}"
        for source in SOURCES.values()
        if source.name.endswith(".__init__")
        for name in exported(source.text)
    }
    assert sorted(wanted - said) == []
    assert len(wanted) > 200


def test_no_page_documents_a_name_that_is_gone():
    entry = re.compile(r"^\.\. (?:auto(?:class|function)|py:data):: (\S+)\.(\w+)$", re.M)
    found = [match for page in PAGES.values() for match in entry.findall(page)]
    faces = {face: exported(SOURCES[f"{face}.__init__"].text) for face, _ in found}
    assert [f"{face}.{name}" for face, name in found if name not in faces[face]] == []
    assert len(found) > 150


def test_every_field_of_a_config_is_described():
    rows = from_code().rows
    classes = [
        getattr(base, name) for name in base.__all__ if isinstance(getattr(base, name), type)
    ]
    fields = {cls.__name__: list(rows(cls)) for cls in classes if dataclasses.is_dataclass(cls)}
    assert all(text.strip() for table in fields.values() for _, _, text in table)
    assert ("std", "0.01", "Standard deviation of the perturbations of theta.") in fields["Merged"]
    shown = set(re.findall(r"\{config-fields\} (\w+)", PAGES["reference/configs"]))
    assert shown == fields.keys() - {"PairEstimator"}


def test_every_command_and_every_experiment_has_its_place():
    helped = re.findall(r"\{command-help\} (\w+)", PAGES["reference/cli"])
    assert sorted(helped) == sorted(COMMANDS)
    commands = re.findall(r"learned-opt reproduce (\w+) --out DIR", PAGES["gallery/index"])
    assert sorted(commands) == sorted(EXPERIMENTS)


def test_docstrings_become_what_sphinx_reads():
    to_rst = from_code().to_rst
    assert to_rst("Gives `a[i]` and ``b``.") == "Gives ``a[i]`` and ``b``."
    assert to_rst("E|w| of `a|b`") == "E\\|w\\| of ``a|b``"
    assert to_rst("Says:\n\n    x = |y|\n\nEnd.") == "Says:\n\n::\n\n    x = |y|\n\n\nEnd."
    table = to_rst("| a | b |\n|---|---|\n| 1 | 2 |").split("\n")
    assert table[1:3] == [".. list-table::", "   :header-rows: 1"]
    assert table[4:8] == ["   * - a", "     - b", "   * - 1", "     - 2"]
    assert to_rst("10. one\n   two") == "10. one\n    two"


def test_every_page_is_in_the_table_of_contents():
    listed = {"index"}
    for name, page in PAGES.items():
        for body in re.findall(r"^```\{toctree\}\n(.*?)^```$", page, re.M | re.S):
            entries = [line for line in body.splitlines() if line and not line.startswith(":")]
            folder = (DOCS / name).parent
            listed |= {(folder / entry).resolve().relative_to(DOCS).as_posix() for entry in entries}
    assert listed == PAGES.keys()


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_is_a_notebook_whose_cells_are_python(name):
    page = PAGES[f"tutorials/{name}"]
    assert page.startswith("---\nfile_format: mystnb\n")
    cells = [body for _, info, body in FENCE.findall(page) if info.startswith("{code-cell}")]
    assert len(cells) > 3
    for cell in cells:
        code = re.sub(r"^(:\w+:|%%writefile).*$", "", cell, flags=re.M)
        ast.parse(code, name)


def test_the_tutorials_are_in_order():
    assert re.findall(r"^\d\. \[.*?\]\((\w+)\.md\)", PAGES["tutorials/index"], re.M) == [*TUTORIALS]


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("concepts/")])
def test_drawings_are_small_and_have_a_title(name):
    for path in re.findall(r"\]\(\.\./(figures/concepts/\S+)\)", PAGES[name]):
        drawing = DOCS / path
        assert drawing.stat().st_size < 100_000
        assert "<title>" in drawing.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_python_of_a_guide_runs(name):
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGES[name], re.M | re.S):
        exec(compile(block, name, "exec"), names)
    assert names


def examples():
    """(name, doctest) of every example of a public name, and of the pages."""
    finder, parser = doctest.DocTestFinder(recurse=False), doctest.DocTestParser()
    names = {"jax": jax, "jnp": jnp, "np": np, "optax": optax}
    public = {}
    for source in SOURCES.values():
        if source.name.endswith(".__init__") and source.package != "learned_opt_lab":
            face = importlib.import_module(source.name.removesuffix(".__init__"))
            public |= {name: getattr(face, name) for name in exported(source.text)}
    for name, x in sorted(public.items()):
        if (inspect.isfunction(x) or inspect.isclass(x)) and name not in NEED_DATA:
            yield from (
                test for test in finder.find(x, name, globs=names | public) if test.examples
            )
    for name, page in PAGES.items():
        for block in re.findall(r"^```pycon\n(.*?)^```$", page, re.M | re.S):
            yield parser.get_doctest(block, {}, name, None, 0)


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_corpus.txt").write_text("a text of one's own " * 1000, encoding="utf-8")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    tests = list(examples())
    said = io.StringIO()
    with jax.numpy_dtype_promotion("standard"):  # as users have it
        for test in tests:
            runner.run(test, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()
    assert len(tests) > 8


def test_the_skeleton_of_an_estimator_trains(tmp_path):
    skeleton = runpy.run_path(str(DOCS / "guides" / "estimator_skeleton.py"))
    config = dataclasses.replace(
        skeleton["config"],
        num_outer_steps=30,
        held_out=base.HeldOut(num_tasks=2, num_steps=20),
    )
    try:
        summary = runs.train(config, tmp_path / "run").summary
    finally:
        base.kinds.__dict__["_KINDS"].pop("SphericalES")
    assert summary["outer_loss_last"] < summary["outer_loss_first"]


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx_book_theme")
    pytest.importorskip("myst_nb")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "site")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in tmp_path.rglob("*.html")}
    assert pages >= {f"{name}.html" for name in PAGES}
    estimator = (tmp_path / "site/tutorials/your_own_estimator.html").read_text(encoding="utf-8")
    assert "standard errors off" in estimator
    assert Path(tmp_path / "site/objects.inv").exists()
