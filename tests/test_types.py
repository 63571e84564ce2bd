"""Public signatures are typed: what the packages' faces export is annotated,
and a type checker passes on them.
"""

import ast
import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("configs", "learned_opt", "learned_opt_lab", "outer_train", "tasks")
FACES = [
    ".".join(p.parent.relative_to(ROOT).parts)
    for q in PACKAGES
    for p in sorted((ROOT / q).rglob("__init__.py"))
]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def exported(face: str) -> Iterator[tuple[str, str]]:
    """(module, name) of what a face exports, where it is defined;
    modules themselves are left out.
    """
    tree = parsed(face)
    lists = [
        n.value
        for n in tree.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"
    ]
    public = set(ast.literal_eval(lists[0])) if lists else set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (
                alias.name for alias in node.names if (alias.asname or alias.name) in public
            ):
                is_module = (
                    ROOT.joinpath(*node.module.split("."), name).is_dir()
                    or ROOT.joinpath(*node.module.split("."), f"{name}.py").is_file()
                )
                if not is_module:
                    yield node.module, name


def public_functions(module: str, name: str) -> Iterator[tuple[str, Function]]:
    """The function of that name, or the public methods and the constructor of the class."""
    for node in parsed(module).body:
        if isinstance(node, Function) and node.name == name:
            yield name, node
        if isinstance(node, ast.ClassDef) and node.name == name:
            for each in node.body:
                if isinstance(each, Function) and (
                    each.name == "__init__" or not each.name.startswith("_")
                ):
                    yield f"{name}.{each.name}", each


def untyped(function: Function) -> list[str]:
    """Arguments, and `return`, that have no annotation."""
    all_of = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    names = [arg.arg for arg in all_of if arg.annotation is None and arg.arg not in ("self", "cls")]
    names += [
        arg.arg
        for arg in (function.args.vararg, function.args.kwarg)
        if arg and arg.annotation is None
    ]
    return names + ["return"] * (function.returns is None and function.name != "__init__")


def test_an_argument_without_a_type_is_found():
    function = ast.parse("def f(self, a, b: int, *c, d: int = 0, **e: int): pass").body[0]
    assert untyped(function) == ["a", "c", "return"]
    assert untyped(ast.parse("def f(a: int) -> None: pass").body[0]) == []


@pytest.mark.parametrize("face", FACES)
def test_public_signatures_are_annotated(face):
    names = list(exported(face))
    found = {
        f"{module}.{label}": missing
        for module, name in names
        for label, function in public_functions(module, name)
        if (missing := untyped(function))
    }
    assert found == {}


def test_the_type_checker_looks_at_all_faces():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "pyright"
    ]
    assert set(settings["include"]) == {f"{package}/__init__.py" for package in PACKAGES}
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_the_faces_pass_the_type_checker():
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed: pip install 'learned-opt[types]'")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    errors = [
        f"{e['file']}: {e['message']}"
        for e in report["generalDiagnostics"]
        if e["severity"] == "error"
    ]
    assert errors == []
    assert report["summary"]["filesAnalyzed"] >= len(PACKAGES)
