"""The page of rivals says what the table holds."""

import re
from pathlib import Path

import pytest

from learned_opt_lab.evaluation.rivals.rival import COMPLEMENT, NO_SCHEDULE
from learned_opt_lab.evaluation.rivals.table import RIVALS

PAGE = (Path(__file__).parents[4] / "docs" / "evaluation.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+ \|[^|]*)\| ", PAGE, re.MULTILINE))


def test_the_page_has_all_rivals_in_their_order():
    assert list(ROWS) == list(RIVALS)


@pytest.mark.parametrize("name", RIVALS)
def test_a_row_has_the_rate_and_what_is_searched(name):
    rate, _, searched = ROWS[name].partition(" | ")
    space = RIVALS[name].space
    assert float(rate.strip(" |")) == space.default["learning_rate"]
    axes = {axis.removeprefix(COMPLEMENT) for axis in space.axes} - set(NO_SCHEDULE)
    assert set(re.findall(r"`(\w+)`", searched)) == axes - {"learning_rate"}
    only = {"schedule_free": {"warmup"}, "prodigy": {"schedule"}}
    assert set(space.axes) & set(NO_SCHEDULE) == only.get(name, set(NO_SCHEDULE))


def test_the_page_says_of_every_rival_where_its_default_is_from():
    _, _, section = PAGE.partition("### Where the defaults are from")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|([^|]*)\|$", section, re.MULTILINE)
    assert [name for name, *_ in rows] == list(RIVALS)
    for name, _, source, _ in rows:
        numbers = re.findall(r"arXiv [\d.]+|\w+/[\w-]+", RIVALS[name].source)
        assert all(number in source for number in numbers), name
