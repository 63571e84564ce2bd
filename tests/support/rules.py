"""The rules of the house: floors, faces, sizes, names. Each is a function of source text."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BELOW = {
    "configs": set(),
    "learned_opt": set(),
    "tasks": set(),
    "outer_train": {"tasks", "learned_opt"},
    "learned_opt_lab": {"tasks", "learned_opt", "outer_train", "configs"},
}
"""Package -> packages it may import, beside itself: three floors."""
MAX_FILES, MAX_LINES, MAX_CODE_LINES, MAX_ARGUMENTS = 12, 300, 40, 8
MANY_ARGUMENTS = {"mlp": 12, "adafactor_mlp": 12, "merged": 10, "load": 11}
"""Functions whose arguments are settings that users give by name -> how many."""
HISTORY = re.compile(
    r"\b(as\s+it\s+was|shipped\s+before|used\s+to\s+(be|do|have)|former(ly)|in\s+an\s+earlier\s+(version|release))\b"
)
"""What code says of its past, which belongs into the notebook."""


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


def missing_attributes(text: str) -> list[str]:
    """`module.name` that a text reads of a module of this project, or of its tests, that has no
    such name; only where the module's name means nothing else in the text.
    """
    tree = ast.parse(text)
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            modules |= {alias.asname: alias.name for alias in node.names if alias.asname}
    modules = {name: m for name, m in modules.items() if m.partition(".")[0] in {*BELOW, "tests"}}
    bound = {
        node.arg if isinstance(node, ast.arg) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
    }
    found = []
    for node in ast.walk(tree):
        is_read = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if is_read and node.value.id in modules.keys() - bound:
            name = modules[node.value.id]
            module = importlib.import_module(name) if _is_module(name) else None
            # One with a `__getattr__` finds its names when it runs.
            if module and not (hasattr(module, node.attr) or hasattr(module, "__getattr__")):
                found.append(f"{name}.{node.attr}")
    return found


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


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
