"""What the page says of results: numbers, missing rows, rows that stay, small figures."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import papers_figures, papers_page
from learned_opt_lab.papers.claims import page
from learned_opt_lab.papers.claims.claim import SOURCES
from learned_opt_lab.papers.registry import EXPERIMENTS

MADE = {"scale": "default", "minutes": 1.25, "machine": "a machine, 2 cores", "commit": "abc"}


def write(folder, name, content):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "result.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / name / "made.json").write_text(json.dumps(MADE), encoding="utf-8")


@pytest.fixture
def results(tmp_path):
    two = {"conservative": {"at_end": 2.0}, "aggressive_then_decayed": {"at_end": 0.5}}
    rows = [
        {"fixed": {"minimizer": fixed}, "with_decay": {"minimizer": 2.0}} for fixed in (1.0, 0.25)
    ]
    write(tmp_path, "nqm_horizons", {"two_dimensional": two, "horizons": rows})
    return tmp_path


def rows_of(content, source):
    return [row for rows in content["papers"].values() for row in rows if row["source"] == source]


def test_numbers_come_from_the_result(results):
    content = page.collect(results)
    first, second, third = rows_of(content, "nqm_horizons")
    assert first["ours"] == {"value": 0.25, "low": 0.25, "high": 0.25, "over": "exact"}
    assert first["word"] == second["word"] == third["word"] == "shown"
    assert second["ours"]["value"] == 4
    assert content["results"]["nqm_horizons"] == MADE
    assert (
        "| Figure 1 | loss of a large rate that then decays, over that of a small fixed one "
        "| below 1 | 0.25, exact | **shown** "
        "| `learned-opt reproduce nqm_horizons`, default, 1.2 min |"
    ) in page.markdown(content)


def test_a_row_without_a_result_is_missing(results):
    content = page.collect(results)
    (row, *_) = rows_of(content, "offline_smd")
    assert (row["ours"], row["word"]) == (None, "missing")
    assert "**missing** | `learned-opt reproduce offline_smd` |" in page.markdown(content)


def test_a_result_that_lacks_what_a_claim_needs_is_missing(results):
    write(results, "nqm_horizons", {"horizons": []})
    assert {row["word"] for row in rows_of(page.collect(results), "nqm_horizons")} == {"missing"}


def test_what_is_not_there_stays_as_it_is(results, tmp_path):
    first = page.collect(results)
    second = page.collect(tmp_path / "elsewhere", json.loads(json.dumps(first)))
    assert second == first


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (63.884, "63.9"),
        (1e20, "1e20"),
        (12345.0, "12,345"),
        (0.00012345, "0.000123"),
        (1e-5, "1e-5"),
    ],
)
def test_numbers_are_short(value, text):
    assert page.show(value) == text


def test_every_experiment_is_read_by_a_claim():
    read = {claim.source for paper in page.PAPERS.values() for claim in paper.claims}
    assert read == {*EXPERIMENTS, *SOURCES}


def test_a_row_has_a_name_of_its_own():
    names = [
        (name, claim.where, claim.says)
        for name, paper in page.PAPERS.items()
        for claim in paper.claims
    ]
    assert len(names) == len(set(names))


def test_a_copy_has_room_or_is_refused(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (90, 1600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    monkeypatch.setattr(papers_figures, "WIDTHS", (1500, 300))
    monkeypatch.setattr(papers_figures, "MOST_BYTES", 20_000)
    copy = papers_figures.small((tmp_path / "noise.png").read_bytes())
    assert len(copy) <= 20_000
    assert Image.open(io.BytesIO(copy)).width == 300
    monkeypatch.setattr(papers_figures, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="no copy of 100 bytes"):
        papers_figures.small((tmp_path / "noise.png").read_bytes())


def test_the_script_writes_page_numbers_and_figures(results, tmp_path, capsys):
    for name in ("horizons", "two_dimensional"):
        Image.new("RGB", (200, 100)).save(results / "nqm_horizons" / f"{name}.png")
    docs = tmp_path / "docs"
    docs.mkdir()
    assert papers_page.main([str(results), "--docs", str(docs)]) == 0
    assert "2 figures" in capsys.readouterr().out
    content = json.loads((docs / "papers.json").read_text(encoding="utf-8"))
    assert content["results"]["nqm_horizons"]["figures"][0] == "nqm_horizons.png"
    assert "[1](figures/gallery/nqm_horizons.png), [2]" in page.markdown(content)
    assert (docs / "papers.md").read_text(encoding="utf-8") == page.markdown(content)
    copies = sorted((docs / "figures" / "gallery").iterdir())
    assert [path.name for path in copies] == [
        "nqm_horizons.png",
        "nqm_horizons_two_dimensional.png",
    ]
    assert all(path.stat().st_size <= papers_figures.MOST_BYTES for path in copies)


CARD = """\
:::{grid-item-card} Figure 5: a title
%sWhat it says.

`learned-opt reproduce outer --out DIR`
:::
"""


def test_a_card_gets_the_figure_that_is_there_once(tmp_path):
    text = CARD % "" + CARD % "![Own](../own.png)\n\n"
    assert papers_figures.with_figures(text, tmp_path) == text
    (tmp_path / "outer.png").touch()
    drawn = papers_figures.with_figures(text, tmp_path)
    assert drawn == (
        CARD % "![A title](../figures/gallery/outer.png)\n\n" + CARD % "![Own](../own.png)\n\n"
    )
    assert papers_figures.with_figures(drawn, tmp_path) == drawn


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        papers_page.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "holds no results" in capsys.readouterr().err
