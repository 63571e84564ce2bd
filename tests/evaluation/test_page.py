"""The page: every number is the JSON's, nothing is fetched, and a real browser finds no fault."""

import html.parser
import json
import random
import re
import shutil
import subprocess

import numpy as np
import pytest

from evaluation import figures, page
from evaluation import suite_figures as suite_figures_module
from evaluation.entries import Entry
from evaluation.report import build_report, curve_arrays
from evaluation.suite_figures import suite_figures
from evaluation.suite_run import Cell, Results, Settings
from evaluation.text import plain
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


def make_report(axis="width", labels=("learned", "</script>"), name="task", value=None):
    """A report of made-up curves: the first optimizer falls faster than the tuned reference, the second diverges.

    Args:
      axis: of the suite.
      labels: of the two.
      name: what the names of tasks, and all other free text, hold.
      value: all losses and seconds, where it is given.

    Returns:
      The report, the figures and the page.
    """
    tasks = tuple(SuiteTask(f"{name}{i}", None, 100, 2, f"{name} & <{i}>", axis_value=10**i) for i in range(3))
    suite = Suite("made_up", 1, f"Made up {name}.", tasks, axis=axis)
    entries = [Entry("adam", "adam", baseline="adam", details={"description": f"Adam {name}"})]
    entries += [Entry(label, "runs/x", theta=np.ones(2), details={}) for label in labels]
    rng, cells = np.random.default_rng(0), {}
    for task in tasks:
        for entry, speed in zip(entries, (20.0, 10.0, 30.0), strict=True):
            falling = 0.1 + 2 * np.exp(-np.arange(51) / speed) + 0.02 * rng.random((4, 51))
            if entry.label == labels[1]:
                falling[1:, 20:] = np.nan
            if value is not None:
                falling[:] = value
            metrics = {"loss": falling, "accuracy": np.exp(-falling)}
            seconds = {"seconds_per_step": 1e-4 * speed, "plain_seconds_per_step": 9e-4, "compile_seconds": 1.5}
            record = {"hyperparameters": None, "tuning": None, **seconds}
            if entry.baseline:
                record |= {"hyperparameters": {f"learning_rate {name}": 0.01}, "tuning": {"search": "grid"}}
            cells[task.name, entry.label] = Cell(dict.fromkeys(("train", "outer_valid", "test"), metrics), record)
    results = Results(cells, {f"gone {name}": f"data not here {name}"})
    report = build_report(suite, entries, Settings(num_seeds=4), results)
    figures = suite_figures(report, curve_arrays(suite, results))
    return report, figures, page.render(report, figures)


@pytest.fixture(scope="module")
def made():
    report, _, text = make_report()
    return report, text


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
    return browse(made[1].replace("</body>", f"{clicks}</body>"), folder)


def browse(text, folder):
    """The page as a browser sees it, `(dom, log)`."""
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    flags = [f"--user-data-dir={folder}/profile", "--window-size=500,900", "--dump-dom"]
    command = [BROWSER, *FLAGS, *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
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


HOSTILE = (
    r"$\bad$ </script><script>throw 1</script> <!--<script> \"' &amp; {{ 7 * 7 }} {% raw %}",
    "_ \u2028 \x00\x1b[31m \ud800 \u202e fill: #ff0000; | <b>日本 \U0001f600</b> ]]> --> " + "W" * 300,
)


class Parsed(html.parser.HTMLParser):
    """The start tags of a page, the text of its `td` cells of class `text`, and of its elements by tag."""

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
        return {key: replaced(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, name) for item in value]
    return value + name if isinstance(value, str) and value not in ("learned", "baseline") else value


def random_texts(num_texts):
    """Strings of bits of markup and of characters of all planes of Unicode."""
    generator = random.Random(0)
    bits = ["</td>", "<!--", "-->", "</script>", "<script>", "&lt", "&#0;", '"', "'>", "{{", "{%", "\u2028", "\ud800"]
    for _ in range(num_texts):
        pieces = [
            generator.choice(bits) if generator.random() < 0.5 else chr(generator.randrange(0x110000)) for _ in "x" * 9
        ]
        # A high and a low surrogate side by side are one character in JSON.
        yield "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


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
        figures.save(captioned.figure, tmp_path / f"{i}.png")
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
    figures.save(drawn["task0_steps"].figure, tmp_path / "figure.png")


def without_numbers(value):
    """A report in which no measured number is known."""
    if isinstance(value, dict):
        return {key: item if key == "rank" else without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_numbers(item) for item in value]
    return None if isinstance(value, float) else value


def test_a_report_of_unknown_numbers_says_so():
    report, drawn, _ = make_report()
    report = without_numbers(report)
    for draw in ("overview", "profile", "along_axis"):
        captioned = getattr(suite_figures_module, draw)(report, suite_figures_module._styles(report))
        page.to_svg(captioned.figure, draw)
        for line in captioned.figure.axes[0].lines:
            assert np.isnan(np.asarray(line.get_ydata(), float)).all() or not line.get_label().startswith("learned")
    text = page.render(report, drawn)
    assert "<b>learned</b> cannot be compared with tuned adam" in text
    numbers = Numbers(text).numbers
    assert {shown for path, shown in numbers if path.endswith((".estimate", ".low", ".high"))} == {"–"}
