"""The page of runs: text of users is text; a real browser reads it, zooms, and follows a run."""

import json
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from learned_opt_lab.cli.main import main
from learned_opt_lab.drawing import charts as drawing
from learned_opt_lab.drawing.text import json_for_script
from learned_opt_lab.watch import page
from learned_opt_lab.watch.reading import Reader, find_runs
from learned_opt_lab.watch.server import Server
from tests.support.lab import pages
from tests.support.lab.pages import BROWSER, FLAGS, WIDTHS, Numbers, browse
from tests.support.lab.watched import add_rows, made_up_rows, made_up_run

HOSTILE = "</script><b x='\">{{ 1 }}&lt;\u202e"
CHECKS = Path(pages.__file__).with_name("watch_checks.js")


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.script, self._in = [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self._in = dict(attrs).get("id")

    def handle_data(self, data):
        if self._in == "live-data":
            self.script += data

    def handle_endtag(self, tag):
        self._in = None


def watched(*paths):
    return Reader(find_runs(paths)).read()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made_up_run(folder / "seed-0", complete=True)
    made_up_run(folder / "seed-1", 60, seed=1, note=HOSTILE)
    return watched(folder)


def test_text_of_users_is_text(tmp_path, runs):
    for name in ("plain", HOSTILE.replace("/", "|")):
        made_up_run(tmp_path / name, 3, note=name)
    plain, hostile = (
        Tags(page.render(watched(tmp_path / name), refresh_seconds=3.0))
        for name in ("plain", HOSTILE.replace("/", "|"))
    )
    assert hostile.tags == plain.tags
    assert json.loads(hostile.script)["charts"].keys() == json.loads(plain.script)["charts"].keys()
    text = page.render(runs).replace(drawing.script(), "")
    assert "<b x=" not in text


def test_nothing_is_fetched_from_elsewhere(runs):
    text = page.render(runs, refresh_seconds=3.0)
    assert all(address.startswith("data:") for address in Numbers(text).addresses)
    ours = text.replace(drawing.script(), "")
    assert "url(" not in ours
    assert "https:" not in ours.replace("https://vega.github.io/schema", "")


def test_each_run_has_one_colour(runs):
    for chart in page.live_values(runs)["charts"].values():
        for spec in chart["specs"]:
            for layer in spec["layer"][:-1]:
                scale = layer["encoding"]["color"]["scale"]
                assert scale["domain"] == ["seed-0", "seed-1"]
                assert [color[:13] for color in scale["range"]] == [
                    "var(--c-0072b",
                    "var(--c-e69f0",
                ]


def test_what_differs_is_in_the_page(runs):
    text = page.render(runs)
    assert "Where the configs differ" in text
    assert "Where the configs differ" not in page.render(runs[:1])


def test_the_command_writes_a_page(tmp_path, capsys):
    made_up_run(tmp_path / "run", 3)
    out = tmp_path / "new" / "page.html"
    assert main(["watch", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert "Run run" in out.read_text(encoding="utf-8")
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "needs RUNS"),
        (["nowhere"], "nowhere holds no run"),
        (["run", "--port", "70000"], "--port must be within 0..65535"),
        (["run", "--out", "run"], "run"),
    ],
)
def test_bad_input(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made_up_run(tmp_path / "run", 3)
    assert main(["watch", *argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[0]
    assert len(lines) <= 3


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    made_up_run(tmp_path / "run", 3)
    code = (
        "import sys, signal, _thread, threading\n"
        "from learned_opt_lab.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(main(['watch', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        time.sleep(0.2)
        process.send_signal(2)
        assert process.wait(60) == 0


@pytest.fixture(scope="module", params=["light", "dark"])
def browsed(request, runs, tmp_path_factory):
    """What a browser finds of a page at each width, and its console."""
    if BROWSER is None:
        pytest.skip("no Chromium found")
    longer = runs[1]._replace(rows=runs[1].rows + made_up_rows(5, first=60))
    after = json_for_script(page.live_values([runs[0], longer]))
    text = page.render(runs, refresh_seconds=1000.0)
    head, end, tail = text.rpartition("</main>")
    text = f'{head}{end}<script type="application/json" id="next-data">{after}</script>{tail}'
    folder = tmp_path_factory.mktemp("browser")
    return browse(text, folder, dark=request.param == "dark", uses=CHECKS)


def test_a_browser_reads_zooms_hovers_and_follows(browsed):
    found, console = browsed
    assert console == []
    assert set(found) == set(WIDTHS)
    for width, page_found in found.items():
        assert page_found["errors"] == [], page_found
        assert page_found["violations"] == page_found["cut"] == page_found["fetched"] == [], width
        assert page_found["overflow"] <= 0, width
        assert page_found["outside"] == 0, width
        assert len(page_found["drawn"]) == 8
        assert page_found["tooltip"].startswith("runseed-"), width
        assert page_found["overSeconds"], width
        # The wheel alone scrolls the page; with shift it zooms.
        assert page_found["scrolled"] == page_found["whole"] == [1, 120]
        low, high = page_found["zoomed"]
        assert 1 < low < high < 120
        # New rows came: the view, its zoom and the point under the pointer stayed.
        assert page_found["kept"] == page_found["zoomed"]
        assert page_found["sameView"]
        assert page_found["rows"] == 120 + 65
        assert page_found["hover"] == 1
        assert "65 of 200 (32%)" in page_found["cells"]
        assert page_found["status"].startswith("The server does not answer")


def test_a_browser_follows_a_run_that_goes_on(tmp_path):
    if BROWSER is None:
        pytest.skip("no Chromium found")
    made_up_run(tmp_path / "run", 20)
    with Server(Reader(find_runs([tmp_path / "run"]))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        body = server.body

        def grows(path):
            if path == "/data.json":
                add_rows(tmp_path / "run", made_up_rows(1, first=20))
                server._read_at = -1e9
                server.body = body
            return body(path)

        server.body = grows
        flags = [f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=8000", "--dump-dom"]
        command = [BROWSER, *FLAGS, *flags, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        server.shutdown()
    assert "CONSOLE" not in done.stderr
    assert ">21 of 200 (10%)</span>" in done.stdout
    assert "Live: last looked at" in done.stdout
