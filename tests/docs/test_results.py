"""Every page of results that has a JSON beside it follows from that alone."""

import json

import pytest

from benchmarks import bench_page
from learned_opt_lab.evaluation.page import document
from tests.docs.test_site import DOCS, PAGES

KEPT = sorted(path.stem for path in (DOCS / "results").glob("*.json"))


@pytest.mark.parametrize("name", KEPT)
def test_a_page_is_what_its_script_writes(name):
    content = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    write = bench_page.markdown if name == "benchmarks" else document.markdown
    assert PAGES[f"results/{name}"] == write(content)


def test_each_is_in_the_table_of_contents():
    contents = PAGES["results/index"].partition(":hidden:")[2].split()
    assert set(KEPT) <= set(contents)
