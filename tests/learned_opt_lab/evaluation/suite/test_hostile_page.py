"""The page of names from outside, and of losses that are unknown:
text stays text, unknown stays unknown.
"""

import html.parser
import json
import random
import re

import numpy as np
import pytest

from learned_opt_lab.drawing import training_figures
from learned_opt_lab.drawing.text import plain
from learned_opt_lab.evaluation.suite import figures as suite_figures_module
from learned_opt_lab.evaluation.suite import page
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


def test_hostile_names_are_drawn(hostile, tmp_path):
    report, drawn, text = hostile
    for i, captioned in enumerate(drawn.values()):
        training_figures.save(captioned.figure, tmp_path / f"{i}.png")
    parsed = Parsed(text)
    assert json.loads(parsed.script) == report
    assert [tag for tag in parsed.tags if tag[0] in ("script", "figure")] == (
        [("figure", "id")] * 9 + [("script", "type", "id"), ("script",)]
    )
    assert {plain(label) for label in HOSTILE} <= set(parsed.cells)
    assert "fill: #ff0000; |" in re.sub("…", "", text)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium found")
def test_a_browser_finds_no_fault_with_hostile_names(hostile, tmp_path):
    dom, log = browse(hostile[2], tmp_path)
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []
    assert dom.count('title="rows.0.test_loss.estimate = ') == 1
    assert dom.count("<script") == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30])
def test_losses_that_are_unknown_or_negative(value, tmp_path):
    report, drawn, text = make_report(value=value)
    assert json.loads(Parsed(text).script) == report
    training_figures.save(drawn["task0_steps"].figure, tmp_path / "figure.png")


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
    report, drawn, _ = make_report()
    report = without_numbers(report)
    for draw in ("overview", "profile", "along_axis"):
        captioned = getattr(suite_figures_module, draw)(
            report, suite_figures_module._styles(report)
        )
        page.to_svg(captioned.figure, draw)
        for line in captioned.figure.axes[0].lines:
            assert np.isnan(
                np.asarray(line.get_ydata(), float)
            ).all() or not line.get_label().startswith("learned")
    text = page.render(report, drawn)
    assert "<b>learned</b> cannot be compared with tuned adam" in text
    numbers = Numbers(text).numbers
    assert {shown for path, shown in numbers if path.endswith((".estimate", ".low", ".high"))} == {
        "–"
    }
