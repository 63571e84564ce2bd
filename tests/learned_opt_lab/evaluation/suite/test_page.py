"""The page: every number is the JSON's, nothing is fetched, and a real browser finds no fault."""

import json
import re

import pytest

from learned_opt_lab.evaluation.suite import page
from tests.support.lab.pages import BROWSER, Numbers, browse, make_report


@pytest.fixture(scope="module")
def made():
    report, _, text = make_report()
    return report, text


def lookup(report, path):
    for key in path.split("."):
        report = report[int(key)] if isinstance(report, list) else report[key]
    return report


def test_every_number_stands_in_the_json(made):
    report, text = made
    embedded = re.search(r'id="report-data">(.*?)</script>', text, re.DOTALL).group(1)
    assert json.loads(embedded) == report
    numbers = Numbers(text).numbers
    assert len(numbers) > 200
    for path, shown in numbers:
        value = lookup(report, path)
        if value is None:
            assert shown == "–"
        else:
            assert float(shown) == pytest.approx(value, rel=6e-3)


def test_as_many_rows_as_the_report(made):
    report, text = made
    assert Numbers(text).rows == {"ranking": 3, "rows": len(report["rows"]), "pairs": 3}


def test_nothing_is_fetched(made):
    addresses = Numbers(made[1]).addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "@import" not in made[1]
    assert not re.search(r"url\((?!['\"]?#)", made[1])


def test_figures_are_drawn_in_css_colours_with_a_colour_for_dark(made):
    text = made[1]
    used = set(re.findall(r"var\((--c-[0-9a-f]{6})", text))
    light, dark = text.split("@media (prefers-color-scheme: dark)")[:2]
    assert used
    assert all(f"{name}:" in light and f"{name}:" in dark.split("</style>")[0] for name in used)
    assert text.count("<figure") == 3 + 2 * 3


@pytest.mark.parametrize(
    ("league", "budget", "said"),
    [
        (None, None, "a grid of 11 learning rates"),
        ("equal_budgets", 5, "a learned one too, tries"),
        ("untuned", 1, "Nobody tunes: every optimizer is at its published default"),
    ],
)
def test_the_page_says_what_was_tuned(league, budget, said, made):
    report = made[0] if league is None else made[0] | {"league": league, "budget": budget}
    text = page.render(report, {})
    assert said in text
    assert ("learned optimizers are not tuned" in text) == (league is None)


def test_verdict_says_who_wins(made):
    text = made[1]
    assert "<b>learned</b> beats tuned adam" in text
    assert "&lt;/script&gt;</b> loses to tuned adam" in text


@pytest.fixture(scope="module")
def browsed(made, tmp_path_factory):
    """The page after a click on a heading and on a figure: `(dom, log)`."""
    if BROWSER is None:
        pytest.skip("no Chromium found")
    folder = tmp_path_factory.mktemp("browser")
    clicks = """<script>
      document.querySelector("#rows th:nth-child(4) button").click();
      const rows = [...document.querySelectorAll("#rows tbody tr")];
      const column = rows.map(row => row.cells[3].querySelector("span").textContent);
      document.body.dataset.sorted = column.join(" ");
      document.querySelector("#figure-overview button").click();
      document.querySelector("[data-zoom=in]").click();
      document.body.dataset.zoom = document.querySelector(".stage svg").style.width;
      document.body.dataset.overflow = document.documentElement.scrollWidth - window.innerWidth;
    </script>"""
    return browse(made[1].replace("</body>", f"{clicks}</body>"), folder)


def test_browser_reports_no_error(browsed):
    dom, log = browsed
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []
    assert dom.count('title="rows.0.test_loss.estimate = ') == 1


def test_browser_sorts_and_enlarges_and_fits_a_phone(browsed, made):
    dom, _ = browsed
    shown = [float(value) for value in re.search(r'data-sorted="([^"]*)"', dom).group(1).split()]
    assert shown == sorted(shown)
    assert len(shown) == len(made[0]["rows"])
    assert 'data-zoom="150%"' in dom
    assert int(re.search(r'data-overflow="(-?\d+)"', dom).group(1)) <= 0
