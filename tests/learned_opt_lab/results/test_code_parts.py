"""Values that no source file shows: read from a file at import, or of code that is installed."""

import importlib
import os
import subprocess
import sys
import textwrap

import pytest

from learned_opt_lab.results import content, origin

MINE = """
import collections, dataclasses, functools, types
from pathlib import Path

import mine_too

READ = float(Path(__file__).with_name("read.txt").read_text())

class Base:
    inherited = READ

class Table(Base):
    scale = READ
    def method(self): return READ

class Slotted:
    __slots__ = ("scale",)
    def __init__(self): self.scale = READ

class Call:
    def __call__(self, rate): return rate * READ

class Property:
    @property
    def scale(self): return READ

class Static:
    @staticmethod
    def scale(): return READ

class Made:
    def __init__(self): self.made = READ

class Pair(collections.namedtuple("Pair", "a b")):
    def __call__(self, rate): return rate * READ

@dataclasses.dataclass
class Rule:
    first: float = 0.0
    def __call__(self, rate): return rate * READ

def decorated(function):
    @functools.wraps(function)
    def inner(*args): return function(*args)
    return inner

MAPPED = types.MappingProxyType({"scale": READ})
TABLE, STATIC, PROPERTY = Table(), Static(), Property()

def by_module(rate): return rate * mine_too.READ
def by_module_in_a_module(rate): return rate * mine_too.again.READ
def by_class(rate): return rate * Table.scale
def by_base(rate): return rate * Table.inherited
def by_method(rate): return rate * TABLE.method()
def by_property(rate): return rate * PROPERTY.scale
def by_static_method(rate): return rate * Static.scale()
def by_construction(rate): return rate * Made().made
def by_mapping(rate): return rate * MAPPED["scale"]
def within(rate): return (lambda: rate * mine_too.READ)()
by_decorator = decorated(lambda rate: rate * Table.scale)
by_call, by_slot, by_pair, by_rule = Call(), Slotted(), Pair(1, 2), Rule()
NOTHING_OF_IT = 3.0
def independent(rate): return rate * NOTHING_OF_IT
"""
FOLLOWING = [
    "by_module", "by_module_in_a_module", "by_class", "by_base", "by_method", "by_property",
    "by_static_method", "by_construction", "by_mapping", "within", "by_decorator", "by_call",
    "by_slot", "by_pair", "by_rule",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`mine` reads a number at import, and so does `mine_too`."""
    (tmp_path / "mine.py").write_text(MINE)
    read = (
        "from pathlib import Path\nREAD = float(Path(__file__).with_name('read.txt').read_text())"
    )
    (tmp_path / "mine_too.py").write_text(f"import mine_third as again\n{read}\n")
    (tmp_path / "mine_third.py").write_text(f"{read}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget("mine", "mine_too", "mine_third", "mylib")


def forget(*names):
    for name in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[name]
    origin._package_code.cache_clear()
    importlib.invalidate_caches()


def mine(folder, number):
    """The module as it is imported where the file holds this number."""
    forget("mine", "mine_too", "mine_third")
    (folder / "read.txt").write_text(str(number))
    return importlib.import_module("mine")


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_number_that_was_read_at_import_counts(folder, name):
    first, other, again = (content.code(getattr(mine(folder, n), name)) for n in (1, 2, 1))
    assert first != other
    assert first == again


def test_what_is_not_named_does_not_count(folder):
    first, other = (content.code(mine(folder, n).independent) for n in (1, 2))
    assert first == other


def test_another_process_gives_the_same_digests(folder):
    """With other addresses and another order of sets."""
    (folder / "more.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            import mine

            class Own:
                kinds = {int, str, print, mine.by_class, mine.Table, ("a", 1), frozenset("xyz")}
                of = {mine.by_class: 1, mine.by_call: 2, object(): 3}
                objects = np.array([mine.by_class, object(), None])
                iterator = iter([1])
                def __call__(self): return Own

            own = Own()
            """
        )
    )
    (folder / "read.txt").write_text("1")
    code = (
        "import mine, more; from learned_opt_lab.results import content\n"
        f"print(content.code(more.own, *[getattr(mine, each) for each in {FOLLOWING}]))"
    )
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), *sys.path])
        command = [sys.executable, "-c", "x = [bytearray(9)] * " + seed + "\n" + code]
        found.add(subprocess.check_output(command, env=environment, text=True))
    assert len(found) == 1


def test_a_long_chain_of_functions_is_followed_to_its_end(folder):
    source = "\n".join(f"def f{i}(): return f{i + 1}()" for i in range(2000))
    (folder / "mine_too.py").write_text(source + "\nimport mine_third\nf2000 = mine_third.READ\n")
    (folder / "mine.py").write_text("import mine_too\ndef start(): return mine_too.f0()\n")
    first, other = (content.code(mine(folder, n).start) for n in (1, 2))
    assert first != other


@pytest.fixture
def installed(folder, monkeypatch):
    """A package in a folder of libraries, whose helper can be edited."""
    site = folder / "site-packages"
    (site / "mylib").mkdir(parents=True)
    (site / "mylib" / "__init__.py").write_text(
        "from mylib import rule\ndef make(rate): return rate * rule.factor()\n"
    )
    (site / "mylib" / "rule.py").write_text("def factor(): return 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(origin, "_library_folders", lambda: (f"{site}/",))
    return site / "mylib"


def test_the_text_of_an_installed_package_counts(folder, installed):
    (folder / "mine.py").write_text("import mylib\ndef make(rate): return mylib.make(rate)\n")

    def digests():
        forget("mylib", "mine")
        library, own = importlib.import_module("mylib"), importlib.import_module("mine")
        return content.code(library.make), content.code(own.make)

    first = digests()
    assert digests() == first
    for name, text in {
        "rule.py": "def factor(): return 2.0\n",
        "deep/more.py": "X = 1\n",
        "scale.txt": "3",
    }.items():
        (installed / name).parent.mkdir(exist_ok=True)
        (installed / name).write_text(text)
        now = digests()
        assert now[0] != first[0]
        assert now[1] != first[1]
        first = now
    (installed / "compiled.so").write_bytes(b"x")
    (installed / "binary.dat").write_bytes(b"\0")
    assert digests() == first


def test_the_text_of_an_installed_package_is_bounded(installed, monkeypatch):
    importlib.import_module("mylib")
    size = sum(path.stat().st_size for path in installed.glob("*.py"))
    (installed / "z_large.py").write_text("x" * 1000)
    module = sys.modules["mylib"]
    assert len(list(origin._texts(module))) == 6
    monkeypatch.setattr(origin, "MAX_BYTES", size + 10)
    assert len(list(origin._texts(module))) == 4
    monkeypatch.setattr(origin, "MAX_FILES", 1)
    assert len(list(origin._texts(module))) == 2


def test_libraries_and_this_project_count_by_their_versions():
    names = ("jax.numpy", "optax", "numpy", "json", "learned_opt.disk", "learned_opt_lab.runs")
    for name in names:
        importlib.import_module(name)
        assert origin.installed_package(name) is None
    assert origin.installed_package("pytest") == "pytest"
    assert origin.installed_package(None) is None
    assert origin.installed_package("nowhere") is None
