"""The page: every number is the JSON's, nothing is fetched, and a real browser finds no fault."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from evaluation import page
from evaluation.entries import Entry
from evaluation.report import build_report, curve_arrays
from evaluation.suite_figures import suite_figures
from evaluation.suite_run import Cell, Results, Settings
from tasks.suites import Suite, SuiteTask

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
]


def make_report(axis="width"):
    """A report of made-up curves: the learned optimizer falls faster, `</script>` diverges."""
    tasks = tuple(SuiteTask(f"task{i}", None, 100, 2, f"task & <{i}>", axis_value=10**i) for i in range(3))
    suite = Suite("made_up", 1, "Made up.", tasks, axis=axis)
    entries = [Entry("adam", "adam", baseline="adam", details={"description": "Adam"})]
    entries += [Entry(label, "runs/x", theta=np.ones(2), details={}) for label in ("learned", "</script>")]
    rng, cells = np.random.default_rng(0), {}
    for task in tasks:
        for entry, speed in zip(entries, (20.0, 10.0, 30.0), strict=True):
            falling = 0.1 + 2 * np.exp(-np.arange(51) / speed) + 0.02 * rng.random((4, 51))
            if entry.label == "</script>":
                falling[1:, 20:] = np.nan
            metrics = {"loss": falling, "accuracy": np.exp(-falling)}
            seconds = {"seconds_per_step": 1e-4 * speed, "plain_seconds_per_step": 9e-4, "compile_seconds": 1.5}
            record = {"hyperparameters": None, "tuning": None, **seconds}
            if entry.baseline:
                record |= {"hyperparameters": {"learning_rate": 0.01}, "tuning": {"search": "grid"}}
            cells[task.name, entry.label] = Cell(dict.fromkeys(("train", "outer_valid", "test"), metrics), record)
    results = Results(cells, {"gone": "data not here"})
    report = build_report(suite, entries, Settings(num_seeds=4), results)
    return report, page.render(report, suite_figures(report, curve_arrays(suite, results)))


@pytest.fixture(scope="module")
def made():
    return make_report()


class Numbers(html.parser.HTMLParser):
    """Collects `(path, text)` of every element with a data-path, and rows by table."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self.rows, self._path, self._table, self.addresses = [], {}, None, None, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._path = attrs.get("data-path", self._path)
        self._table = attrs.get("id") if tag == "table" else self._table
        if tag == "tr" and self._table:
            self.rows[self._table] = self.rows.get(self._table, -1) + 1  # the first row is the heading
        self.addresses += [attrs[name] for name in ("src", "href") if attrs.get(name)]

    def handle_data(self, data):
        if self._path:
            self.numbers.append((self._path, data))
            self._path = None


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
    path = folder / "report.html"
    path.write_text(made[1].replace("</body>", f"{clicks}</body>"))
    command = [
        BROWSER,
        *FLAGS,
        f"--user-data-dir={folder}/profile",
        "--window-size=500,900",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


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
