"""Files of ours are UTF-8 whatever the locale: whoever opens a text names its encoding."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = (
    "benchmarks",
    "configs",
    "examples",
    "learned_opt",
    "learned_opt_lab",
    "outer_train",
    "tasks",
)
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
OTHER_OPENERS = {"os", "Image", "webbrowser", "tarfile", "zipfile", "sys"}
"""Their `open` takes no text, or none that is ours."""
OUR_WRITERS = {"files"}
"""Modules whose `write_text` is UTF-8 always."""


def without_encoding(source: str) -> list[int]:
    """Lines of calls that read or write text in the encoding of the locale."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _is_bad(node)
    ]


def _is_bad(call: ast.Call) -> bool:
    function, keywords = call.func, {keyword.arg: keyword.value for keyword in call.keywords}
    is_method = isinstance(function, ast.Attribute)
    name = function.attr if is_method else getattr(function, "id", None)
    owner = function.value.id if is_method and isinstance(function.value, ast.Name) else None
    if "encoding" in keywords or None in keywords:  # None: of `**options`, which may hold it
        return False
    if name in ("read_text", "write_text"):
        # The encoding is the first argument of the one and the second of the other.
        return is_method and owner not in OUR_WRITERS and len(call.args) <= (name == "write_text")
    if name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        if owner in OTHER_OPENERS and name == "open":
            return False
        at = (
            0
            if name.endswith("File")
            or (is_method and name == "open" and owner not in ("io", "gzip"))
            else 1
        )
        mode = keywords.get("mode", call.args[at] if len(call.args) > at else None)
        default = "w+b" if name.endswith("File") else "r"
        return "b" not in (
            mode.value if isinstance(mode, ast.Constant) else default if mode is None else "b"
        )
    if name in ("TextIOWrapper", "FileHandler"):
        return True
    return any(_is_true(keywords.get(option)) for option in ("text", "universal_newlines"))


def _is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


@pytest.mark.parametrize(
    ("source", "is_bad"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, 'utf-8')", False),
        ("files.write_text(path, text)", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("path.open('a')", True),
        ("path.open('ab')", False),
        ("os.open(path, flags)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, text=True, encoding='utf-8')", False),
        ("subprocess.run(command)", False),
        ("tempfile.NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("os.fdopen(1, 'w')", True),
        ("logging.FileHandler(path)", True),
    ],
)
def test_the_check(source, is_bad):
    assert bool(without_encoding(source)) is is_bad


def test_every_text_has_its_encoding():
    found = [
        f"{path.relative_to(ROOT)}:{n}"
        for path in FILES
        for n in without_encoding(path.read_text("utf-8"))
    ]
    assert not found, f"no encoding is named in {', '.join(found)}"
    assert len(FILES) > 150
