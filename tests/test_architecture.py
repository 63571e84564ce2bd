"""The rules of the house: floors, faces, sizes, names.

Each is a function of source text, tried on broken examples.
"""

import ast
import configparser
import fnmatch
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from configs import base

ROOT = Path(__file__).parent.parent
BELOW = {
    "configs": set(),
    "learned_opt": set(),
    "tasks": set(),
    "outer_train": {"tasks", "learned_opt"},
    "learned_opt_lab": {"tasks", "learned_opt", "outer_train", "configs"},
}
"""Package -> packages it may import, beside itself: three floors."""
MAX_FILES, MAX_LINES, MAX_CODE_LINES, MAX_ARGUMENTS = 12, 300, 40, 8
MANY_ARGUMENTS = {"mlp": 12, "adafactor_mlp": 12, "merged": 10}
"""Functions whose arguments are settings that users give by name -> how many."""
HISTORY = re.compile(
    r"\b(as it was|shipped before|used to (be|do|have)|formerly|in an earlier (version|release))\b"
)


class Source(NamedTuple):
    """A module's name and text."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


SOURCES = {
    module_name(path): Source(module_name(path), path.read_text(encoding="utf-8"))
    for package in BELOW
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(source: Source) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each name that is imported from it, at any depth;
    (module, None) for `import module`.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((node.module, alias.name) for alias in node.names)


def exported(text: str) -> set[str]:
    """`__all__` of a module; what it imports where it has none."""
    body = ast.parse(text).body
    lists = [
        n.value
        for n in body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"
    ]
    return set(ast.literal_eval(lists[0])) if lists else set()


def climbs(source: Source) -> list[str]:
    """Packages a module imports that are not below its own."""
    known = set(BELOW) - BELOW[source.package] - {source.package}
    return sorted({module for module, _ in imports(source) if module.partition(".")[0] in known})


def past_a_face(source: Source, sources: dict[str, Source]) -> list[str]:
    """Names that a module takes from another package without that package's face,
    an `__init__`, exporting them.
    """
    wrong = []
    for module, name in imports(source):
        if module.partition(".")[0] in set(BELOW) - {
            source.package
        } and "." in f"{module}.{name or ''}".rstrip("."):
            face = sources.get(f"{module}.__init__")
            if face is None or (name is not None and name not in exported(face.text)):
                wrong.append(f"{module}: {name}")
    return wrong


def definitions(source: Source) -> list[str]:
    """Functions and classes of a module, lambdas too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return [
        getattr(node, "name", "lambda") for node in ast.walk(source.tree) if isinstance(node, kinds)
    ]


def code_lines(function: ast.FunctionDef, text: str) -> int:
    """Lines of a function's body that are neither its docstring, nor blank, nor a comment."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    lines = text.splitlines()[body[0].lineno - 1 : function.end_lineno] if body else []
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


def too_large(source: Source) -> list[str]:
    """What of a module has more lines or arguments than is allowed."""
    wrong = (
        [f"{source.name}: {n} lines"] if (n := len(source.text.splitlines())) > MAX_LINES else []
    )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef):
            number = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
            if number > MANY_ARGUMENTS.get(node.name, MAX_ARGUMENTS):
                wrong.append(f"{source.name}: {node.name} has {number} arguments")
            if (n := code_lines(node, source.text)) > MAX_CODE_LINES:
                wrong.append(f"{source.name}: {node.name} has {n} lines of code")
    return wrong


def named_like_functions(sources: dict[str, Source]) -> list[str]:
    """Modules that hide behind a function of their name, or hide it:
    `package.name` would be one or the other.
    """
    wrong = []
    for source in sources.values():
        package, _, last = source.name.rpartition(".")
        if last == "__init__":
            taken = {name for module, name in imports(source) if module != package}
            wrong += [
                f"{package}.{name}"
                for name in sorted(taken & exported(source.text))
                if f"{package}.{name}" in sources
            ]
    return wrong


def origin(module: str, name: str, sources: dict[str, Source]) -> str:
    """The module in which a name is defined that faces pass on."""
    face = sources.get(f"{module}.__init__")
    inner = {n: m for m, n in imports(face)} if face else {}
    if name not in inner or inner[name] == module:
        return module
    return origin(inner[name], name, sources)


def names_of_two_things(sources: dict[str, Source]) -> list[str]:
    """Names that faces export from more than one module."""
    origins = defaultdict(set)
    for source in sources.values():
        package, _, last = source.name.rpartition(".")
        for name in exported(source.text) if last == "__init__" else ():
            origins[name].add(origin(package, name, sources))
    return sorted(name for name, modules in origins.items() if len(modules) > 1)


def undocumented(kinds: Iterable[str], page: str) -> list[str]:
    """Kinds that have no row in the table of a page."""
    return [name for name in kinds if not re.search(rf"^\| `{name}` \|", page, re.MULTILINE)]


def untested_for_bias(kinds: Iterable[str], text: str) -> list[str]:
    """Kinds that none of the tables of a test holds by name."""
    tables = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    named = {
        node.value for table in tables for node in ast.walk(table) if isinstance(node, ast.Constant)
    }
    return [name for name in kinds if name not in named]


@pytest.mark.parametrize("package", BELOW)
def test_imports_run_one_way(package):
    assert {
        s.name: found for s in SOURCES.values() if s.package == package and (found := climbs(s))
    } == {}
    assert all(package not in BELOW[other] for other in BELOW[package])


def test_across_packages_only_what_a_face_exports():
    assert {s.name: found for s in SOURCES.values() if (found := past_a_face(s, SOURCES))} == {}


def test_a_config_holds_no_logic():
    configs = [s for s in SOURCES.values() if s.package == "configs" and ".base." not in s.name]
    assert {s.name: found for s in configs if (found := definitions(s))} == {}
    assert len(configs) > 5


def test_no_module_is_named_like_a_function_of_its_face():
    assert named_like_functions(SOURCES) == []


def test_nothing_is_too_large():
    assert [wrong for source in SOURCES.values() for wrong in too_large(source)] == []
    folders = Counter(name.rpartition(".")[0] for name in SOURCES)
    assert {folder: n for folder, n in folders.items() if n > MAX_FILES} == {}


def test_a_public_name_stands_for_one_thing():
    assert names_of_two_things(SOURCES) == []


def test_every_estimator_has_a_row_in_the_documentation_and_a_test_of_its_bias():
    kinds = base.kinds_of(base.Estimator)
    assert undocumented(kinds, SOURCES["outer_train.estimators.__init__"].text) == []
    tests = ROOT / "tests" / "outer_train" / "estimators" / "test_bias.py"
    assert untested_for_bias(kinds, tests.read_text(encoding="utf-8")) == []
    assert len(kinds) > 7


def test_code_tells_no_history():
    found = [
        f"{source.name}:{number}"
        for source in SOURCES.values()
        for number, line in enumerate(source.text.splitlines(), 1)
        if HISTORY.search(line)
    ]
    assert found == []


def sources_of(**texts: str) -> dict[str, Source]:
    names = {
        name.replace("__", ".").replace("..init", ".__init__").rstrip("."): text
        for name, text in texts.items()
    }
    return {name: Source(name, text) for name, text in names.items()}


def test_each_rule_fails_on_a_broken_example():
    assert climbs(Source("tasks.base", "def f():\n    import outer_train.step")) == [
        "outer_train.step"
    ]
    assert climbs(Source("outer_train.step", "import tasks")) == []
    face = Source("tasks.__init__", "from tasks.base import Task, Key\n__all__ = ['Task']")
    for text, wrong in {
        "from tasks import Task": [],
        "from tasks import Key": ["tasks: Key"],
        "from tasks.base import Task": ["tasks.base: Task"],
        "import tasks.base": ["tasks.base: None"],
        "import tasks": [],
    }.items():
        assert past_a_face(Source("outer_train.x", text), {"tasks.__init__": face}) == wrong, text
    assert definitions(Source("configs.x", "a = lambda: 0\nclass B: pass")) == ["B", "lambda"]
    body = "\n".join(f"    x = {i}" for i in range(MAX_CODE_LINES + 1))
    assert too_large(Source("tasks.x", f"def f():\n    '''Doc.'''\n    # comment\n{body}")) == [
        "tasks.x: f has 41 lines of code"
    ]
    assert too_large(Source("tasks.x", "def f(a, b, c, d, e, f, g, h, *, i): pass")) == [
        "tasks.x: f has 9 arguments"
    ]
    assert too_large(Source("tasks.x", "\n" * (MAX_LINES + 1))) == ["tasks.x: 301 lines"]
    twins = {
        "tasks.__init__": Source(
            "tasks.__init__", "from tasks.suite import suite\n__all__ = ['suite']"
        ),
        "tasks.suite": Source("tasks.suite", "def suite(): pass"),
        "configs.__init__": Source(
            "configs.__init__", "from configs.x import suite\n__all__ = ['suite']"
        ),
    }
    assert named_like_functions(twins) == ["tasks.suite"]
    assert names_of_two_things(twins) == ["suite"]
    assert HISTORY.search("# as it was shipped before")
    assert undocumented(["merged", "full_es"], "| `merged` | both |\n`full_es` | `full_es` |") == [
        "full_es"
    ]
    assert untested_for_bias(["a", "b"], "BIASED = ('a',)\ndef test_b():\n    name = 'b'") == ["b"]


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
