"""The rules of the house hold, and each fails on a broken example."""

from collections import Counter

import pytest

from configs import base
from tests.support.rules import (
    BELOW,
    HISTORY,
    MAX_CODE_LINES,
    MAX_FILES,
    MAX_LINES,
    ROOT,
    SOURCES,
    Source,
    climbs,
    definitions,
    missing_attributes,
    named_like_functions,
    names_of_two_things,
    past_a_face,
    too_large,
    undocumented,
    untested_for_bias,
)


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


def test_names_that_are_read_of_a_module_are_there():
    paths = [
        path
        for folder in (*BELOW, "tests", "examples", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    found = {
        str(path.relative_to(ROOT)): missing
        for path in paths
        if (missing := missing_attributes(path.read_text(encoding="utf-8")))
    }
    assert found == {}


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
    text = "from learned_opt import ranges\nranges.require, ranges.gone"
    assert missing_attributes(text) == ["learned_opt.ranges.gone"]
    assert missing_attributes(f"{text}\ndef f(ranges): pass") == []
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
    for words in (("as", "it", "was"), ("shipped", "before"), ("used", "to", "be")):
        assert HISTORY.search(f"# {' '.join(words)} so")
    assert not HISTORY.search("# what is used to train")
    assert undocumented(["merged", "full_es"], "| `merged` | both |\n`full_es` | `full_es` |") == [
        "full_es"
    ]
    assert untested_for_bias(["a", "b"], "BIASED = ('a',)\ndef test_b():\n    name = 'b'") == ["b"]
