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
    if name == "benchmarks":
        assert PAGES[f"results/{name}"] == bench_page.markdown(content)
        return
    assert PAGES[f"results/{name}"] == document.markdown(content, name)
    for unit in document.figures(content):
        figure = DOCS / "figures" / "results" / f"{name}_{unit}.png"
        assert figure.stat().st_size < 100_000


def test_each_is_in_the_table_of_contents():
    contents = PAGES["results/index"].partition(":hidden:")[2].split()
    assert set(KEPT) <= set(contents)
