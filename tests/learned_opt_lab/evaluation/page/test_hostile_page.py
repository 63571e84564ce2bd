"""The page of names from outside, and of losses that are unknown:
text stays text, unknown stays unknown.
"""

import html.parser
import json
import random

import numpy as np
import pytest

from learned_opt_lab.drawing import charts as drawing
from learned_opt_lab.drawing.text import plain
from learned_opt_lab.evaluation.page import page
from learned_opt_lab.evaluation.page.board_charts import along_axis, overview
from learned_opt_lab.evaluation.page.boards import boards_of
from tests.support.lab.pages import BROWSER, Numbers, browse, make_report

HOSTILE = (
    r"$\bad$ </script><script>throw 1</script> <!--<script> \"' &amp; {{ 7 * 7 }} {% raw %}",
    "_ \u2028 \x00\x1b[31m \ud800 \u202e fill: #ff0000; | <b>日本 \U0001f600</b> ]]> --> "
    + "W" * 300,
)


class Parsed(html.parser.HTMLParser):
    """The start tags of a page, the text of its `td` cells of class `text`,
    and of its elements by tag.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.script, self._open = [], [], "", None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, *attrs))
        if tag == "td":
            self._open = "text" if attrs.get("class") == "text" else None
            self.cells += [""] if self._open else []
        elif tag == "script":
            self._open = attrs.get("id")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "text":
            self.cells[-1] += data
        elif self._open == "report-data":
            self.script += data


def replaced(value, name):
    """A report with another name at the end of every text that is not a key."""
    if isinstance(value, dict):
        return {key: item if key == "kind" else replaced(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, name) for item in value]
    return value + name if isinstance(value, str) else value


def random_texts(num_texts):
    """Strings of bits of markup and of characters of all planes of Unicode."""
    generator = random.Random(0)
    bits = [
        "</td>",
        "<!--",
        "-->",
        "</script>",
        "<script>",
        "&lt",
        "&#0;",
        '"',
        "'>",
        "{{",
        "{%",
        "\u2028",
        "\ud800",
    ]
    for _ in range(num_texts):
        pieces = [
            generator.choice(bits)
            if generator.random() < 0.5
            else chr(generator.randrange(0x110000))
            for _ in "x" * 9
        ]
        # A high and a low surrogate side by side are one character in JSON.
        yield "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@pytest.fixture(scope="module")
def made():
    report, _, text = make_report()
    return report, text


def test_no_text_changes_the_page_or_what_its_script_reads(made):
    plainly = Parsed(page.render(made[0], {}))
    for name in [*HOSTILE, *random_texts(60)]:
        report = replaced(made[0], name)
        text = page.render(report, {})
        assert text.encode().decode() == text
        parsed = Parsed(text)
        assert parsed.tags == plainly.tags
        assert json.loads(parsed.script) == report
        assert parsed.cells[0] == plain(plainly.cells[0] + name)
        assert len(parsed.cells) == len(plainly.cells)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return make_report(axis=HOSTILE[1], labels=HOSTILE, name=HOSTILE[0] + HOSTILE[1])


def test_hostile_names_are_drawn(hostile):
    report, charts, text = hostile
    for name in (
        "overview",
        "axis",
        "profile",
        "seconds_of_all",
        next(n for n in charts if n.endswith("_seconds")),
    ):
        assert drawing.png(charts[name]).startswith(b"\x89PNG")
    parsed = Parsed(text)
    assert json.loads(parsed.script) == report
    assert sum(tag[0] == "script" for tag in parsed.tags) == 4
    assert sum(tag[0] == "figure" for tag in parsed.tags) == 3 + 1 + 3
    assert {plain(label) for label in HOSTILE} <= {cell.strip() for cell in parsed.cells}


def test_a_name_that_reads_like_a_colour_stays_a_name():
    look = drawing.styles(["#0072b2", "adam", "a", "a\u202e", "a\\u202e"], "adam")
    assert list(look.names.values()) == ["#0072b2", "adam", "a", "a\\u202e", "a\\u202e (2)"]
    colors = drawing.in_css_colors(look.color())["scale"]
    assert colors["domain"] == list(look.names.values())
    assert colors["range"][0] == "var(--c-0072b2, #0072b2)"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium found")
def test_a_browser_finds_no_fault_with_hostile_names(hostile, tmp_path):
    found, console = browse(hostile[2], tmp_path)
    assert console == []
    for width, page_found in found.items():
        assert page_found["errors"] == page_found["violations"] == page_found["cut"] == [], width
        assert page_found["drawn"] == page_found["charts"] == 7
        assert page_found["overflow"] <= 0
        # Four of the page, one of the test tool, two of the test.
        assert page_found["scripts"] == 7


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30])
def test_losses_that_are_unknown_or_negative(value):
    report, charts, text = make_report(value=value)
    assert json.loads(Parsed(text).script) == report
    for name in ("overview", "profile", "axis", "steps_of_all", "task0_steps"):
        assert drawing.png(charts[name]).startswith(b"\x89PNG")


def without_numbers(value):
    """A report in which no measured number is known."""
    if isinstance(value, dict):
        return {
            key: item if key == "rank" else without_numbers(item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_numbers(item) for item in value]
    return None if isinstance(value, float) else value


def test_a_report_of_unknown_numbers_says_so():
    report = without_numbers(make_report()[0])
    report["optimizers"] = [
        o | {"verdict": "cannot be compared with"} for o in report["optimizers"]
    ]
    look = drawing.styles([o["label"] for o in report["optimizers"]], "adam")
    (board,) = boards_of(report)
    made = {"overview": overview(board, look), "axis": along_axis(report, look)}
    for chart in made.values():
        assert all(row["estimate"] is None for row in chart.data)
        assert drawing.png(chart).startswith(b"\x89PNG")
    text = page.render(report, made)
    assert "and cannot be compared with tuned adam (" in text
    numbers = Numbers(text).numbers
    assert {shown for path, shown in numbers if path.endswith((".estimate", ".low", ".high"))} == {
        "–"
    }
