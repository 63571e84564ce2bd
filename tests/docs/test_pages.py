"""Rules of writing that a machine can hold, over every page and what stands at the root: decimals,
heads of tables, abbreviations, words of the glossary, links, no history.
"""

import re
import runpy
from urllib.parse import urlsplit

import pytest

from learned_opt_lab.cli import main as main_module
from tests.docs.test_site import DOCS, PAGES, from_code
from tests.support.rules import HISTORY, ROOT

AT_THE_ROOT = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/package.md")
TEXTS = {f"docs/{name}.md": page for name, page in PAGES.items()} | {
    name: (ROOT / name).read_text(encoding="utf-8") for name in AT_THE_ROOT
}
"""Path of a page -> its text."""
DATED = ("docs/notebook/", "docs/changelog")
"""Pages that tell what was."""
WRITTEN = [name for name in TEXTS if not name.startswith(DATED)]
EXPANSIONS = {
    "ES": "evolution strateg",
    "PES": "persistent evolution strateg",
    "NRES": "noise-reuse evolution strateg",
    "RP": "reparameterization",
    "MLP": "multilayer perceptron",
    "CNN": "convolutional network",
    "GRU": "gated recurrent unit",
    "VAE": "variational autoencoder",
    "ViT": "vision transformer",
    "SGD": "stochastic gradient descent",
    "HD": "hypergradient descent",
    "RTHO": "real-time hyperparameter optimization",
    "MARTHE": "moving average real-time hyperparameter estimation",
    "SMD": "stochastic meta-descent",
    "LoRA": "low-rank adaptation",
    "TFDS": "tensorflow datasets",
    "GPU": "graphics processor",
    "TPU": "tensor processing unit",
    "XLA": "compiler",
    "FSDP": "fully sharded",
    "HMAC": "hash-based message authentication code",
    "NCCL": "nvidia",
    "LLVM": "compiler",
    "CI": "continuous integration",
    "PRNG": "pseudorandom number generator",
    "GFLOP": "floating-point operation",
}
"""Abbreviation -> what stands beside it where a page uses it first, in lower case."""
NEAR = 120
"""Characters to either side of an abbreviation that count as beside it."""
LINK = re.compile(
    r"\]\(([^)\s]+)\)|<(https?:[^>\s]+)>|(?:src|href)=\"([^\"]+)\"|^:link: (\S+)", re.MULTILINE
)


def without_code(page):
    """What is between backticks is left out, but for directives."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```(?!\{).*?^```$", "", page, flags=re.M | re.S))


def slugs(page):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), re.M)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in kept}


def prose(page):
    """A page without front matter, code, formulas, and the targets of links."""
    page = re.sub(r"\A---\n.*?\n---\n", "", page, flags=re.S)
    page = re.sub(r"^( *)(`{3,}|~{3,}).*?^\1\2$", "", page, flags=re.M | re.S)
    page = re.sub(r"\{term\}`([^`<]*?)(?: ?<[^>]*>)?`", r"\1", page)
    page = re.sub(r"\{[a-z:]+\}`[^`]*`|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$", "", page, flags=re.S)
    page = re.sub(r"^( {4,}(?! *[-*\d]).*|:\w+:.*)$", "", page, flags=re.M)
    return re.sub(r"\]\([^)\s]+\)", "]", page)


@pytest.mark.parametrize("name", TEXTS)
def test_decimals_start_with_a_zero(name):
    assert re.findall(r"(?<![\w.\\/*)\]}])\.\d[\d.]*", prose(TEXTS[name])) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_every_column_of_a_table_has_a_head(name):
    page = re.sub(r"^(`{3,})(?!\{list-table).*?^\1$", "", TEXTS[name], flags=re.M | re.S)
    heads = re.findall(r"^ *(\|.*\|)\n *\|[ :|-]+\|$", page, re.M)
    cells = [cell.strip() for head in heads for cell in re.split(r"(?<!\\)\|", head[1:-1])]
    cells += re.findall(r"^:header-rows: 1\n(?:.*\n)*?\* -(.*)$", page, re.M)
    assert all(cells), heads


@pytest.mark.parametrize("name", WRITTEN)
def test_abbreviations_are_written_out_at_first_use(name):
    text = re.sub(r"\s+", " ", prose(TEXTS[name]))
    unexplained = []
    for short, long in EXPANSIONS.items():
        if name == "docs/glossary.md" and short in ("ES", "HD", "RP"):
            continue  # the entries themselves
        used = re.search(rf"(?<![\w-]){short}s?(?![\w-])", text)
        if used:
            beside = text[max(0, used.start() - NEAR) : used.end() + NEAR].lower()
            if long not in beside:
                unexplained.append(short)
    assert unexplained == []


@pytest.mark.parametrize("name", WRITTEN)
def test_pages_say_what_is_and_not_what_was(name):
    was = re.compile(
        rf"{HISTORY.pattern}|\b(no longer|not any ?more|previously|until recently|came after)\b"
    )
    assert [found[0] for found in was.finditer(prose(TEXTS[name]))] == []


def test_terms_are_in_the_glossary():
    listed = re.findall(r"^(\S.*)$(?=\n  \S)", PAGES["glossary"], re.M)
    listed = {term.strip().lower() for line in listed for term in line.split(",")} | {
        line.lower() for line in listed
    }
    linked = {
        (name, (target or shown).lower())
        for name, page in PAGES.items()
        for shown, target in re.findall(r"\{term\}`([^`<]+?)(?: ?<([^>]+)>)?`", page)
    }
    assert [each for each in sorted(linked) if each[1] not in listed] == []
    assert {name for name, _ in linked} >= {
        "design", "evaluation", "performance", "results/index", "scaling", "sharding", "tasks",
    }  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_links_are_whole(name):
    """Internal ones lead to a file and a heading; of external ones only the form is looked at."""
    broken = []
    found = LINK.findall(without_code(TEXTS[name]))
    for link in (a or b or c or f"{card}.md" for a, b, c, card in found):
        url = urlsplit(link)
        if url.scheme:
            whole = url.scheme == "https" and re.fullmatch(r"([a-z\d-]+\.)+[a-z]+", url.netloc)
        else:
            path = (ROOT / name).parent / url.path if url.path else ROOT / name
            is_page = path.suffix == ".md" and path.exists()
            anchors = slugs(path.read_text(encoding="utf-8")) if is_page else set()
            whole = path.exists() and (not url.fragment or url.fragment in anchors)
        if not whole:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    "path", sorted((DOCS / "figures/concepts").glob("*.py")), ids=lambda x: x.stem
)
def test_a_drawing_is_what_its_script_draws(path):
    drawn = runpy.run_path(str(path))["drawing"]()
    assert path.with_suffix(".svg").read_text(encoding="utf-8") == drawn


def test_the_reference_shows_all_options_of_every_command():
    help_of = from_code().help_of
    shown = re.findall(r"^```\{command-help\} (.*)$", PAGES["reference/cli"], re.M)
    assert {words.split()[0] for words in shown} == set(main_module.commands())
    for words in shown:
        text = help_of(words.split())
        assert text.startswith("usage: learned-opt")
        assert "most used:" not in text
