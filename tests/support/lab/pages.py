"""Reports of made-up curves as pages, and what reads a page: a parser, a browser."""

import html
import html.parser
import json
import pathlib
import re
import shutil
import subprocess

import axe_core_python
import numpy as np

from learned_opt_lab.evaluation.page import page
from learned_opt_lab.evaluation.page.charts import suite_charts
from learned_opt_lab.evaluation.suite.entries import Entry
from learned_opt_lab.evaluation.suite.report import build_report, curve_arrays
from learned_opt_lab.evaluation.suite.run import Cell, Results, Settings
from tasks.suite_tasks import Suite, SuiteTask

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
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
    """A report of made-up curves: the first optimizer falls faster than the tuned reference,
    the second diverges, and others are as the first.

    Args:
      axis: of the suite.
      labels: of the optimizers beside the reference.
      name: what the names of tasks, and all other free text, hold.
      value: all losses and seconds, where it is given.

    Returns:
      The report, the charts and the page.
    """
    tasks = tuple(
        SuiteTask(f"{name}{i}", None, 100, 2, f"{name} & <{i}>", axis_value=10**i) for i in range(3)
    )
    suite = Suite("made_up", 1, f"Made up {name}.", tasks, axis=axis)
    entries = [Entry("adam", "adam", baseline="adam", details={"description": f"Adam {name}"})]
    entries += [Entry(label, "runs/x", theta=np.ones(2), details={}) for label in labels]
    rng, cells = np.random.default_rng(0), {}
    for task in tasks:
        speeds = [20.0, 10.0, 30.0, *[10.0] * (len(entries) - 3)]
        for entry, speed in zip(entries, speeds, strict=True):
            falling = 0.1 + 2 * np.exp(-np.arange(51) / speed) + 0.02 * rng.random((4, 51))
            if entry.label == labels[1]:
                falling[1:, 20:] = np.nan
            if value is not None:
                falling[:] = value
            metrics = {"loss": falling, "accuracy": np.exp(-falling)}
            seconds = {
                "seconds_per_step": 1e-4 * speed,
                "plain_seconds_per_step": 9e-4,
                "compile_seconds": 1.5,
            }
            record = {"hyperparameters": None, "tuning": None, **seconds}
            if entry.baseline:
                record |= {
                    "hyperparameters": {f"learning_rate {name}": 0.01},
                    "tuning": {"search": "grid"},
                }
            cells[task.name, entry.label] = Cell(
                dict.fromkeys(("train", "outer_valid", "test"), metrics), record
            )
    results = Results(cells, {f"gone {name}": f"data not here {name}"})
    report = build_report(suite, entries, Settings(num_seeds=4), results)
    charts = suite_charts(report, curve_arrays(suite, results))
    return report, charts, page.render(report, charts)


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
            # The first row is the heading.
            self.rows[self._table] = self.rows.get(self._table, -1) + 1
        self.addresses += [attrs[name] for name in ("src", "href") if attrs.get(name)]

    def handle_data(self, data):
        if self._path:
            self.numbers.append((self._path, data))
            self._path = None


WIDTHS = (1400, 800, 390)
_SHARED = pathlib.Path(__file__).with_name("checks.js")
_CHECKS = _SHARED.with_name("page_checks.js")
_FRAME = """<!doctype html><body><script>
addEventListener("message", ({{data}}) => {{ document.body.dataset[data.name] = data.found; }});
</script>{frames}</body>"""


def browse(text, folder, *, dark=False, uses=_CHECKS):
    """The page in a browser, side by side at all `WIDTHS`, after the script `uses` has used it.

    Returns:
      Width -> what the checks found, and the lines of the console.
    """
    axe = (pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    scripts = (axe, *(path.read_text(encoding="utf-8") for path in (_SHARED, uses)))
    checks = "".join(f"<script>{script}</script>" for script in scripts)
    head, end, tail = text.rpartition("</body>")
    (folder / "report.html").write_text(f"{head}{checks}{end}{tail}", encoding="utf-8")
    frames = "".join(
        f'<iframe src="report.html#{width}" style="width:{width}px;height:1000px"></iframe>'
        for width in WIDTHS
    )
    path = folder / "frame.html"
    path.write_text(_FRAME.format(frames=frames), encoding="utf-8")
    flags = [f"--user-data-dir={folder}/profile", "--window-size=1600,1200"]
    flags += ["--virtual-time-budget=60000", "--dump-dom"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [BROWSER, *FLAGS, *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=True)
    found = re.findall(r' data-width(\d+)="([^"]*)"', done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {int(width): json.loads(html.unescape(value)) for width, value in found}, console
