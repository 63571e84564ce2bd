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
    assert set(space.axes) & set(NO_SCHEDULE) == (
        {"warmup"} if name == "schedule_free" else set(NO_SCHEDULE)
    )
