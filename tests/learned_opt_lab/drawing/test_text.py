"""Text from outside is shown as it is wherever it is shown, and never taken for anything else."""

import json
import random
import re
import unicodedata

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from learned_opt_lab.drawing import text

HOSTILE = [
    r"$\bad$",
    "$x_$",
    "100 $ and 200 $",
    r"\$ \alpha \frac{1}{0",
    "_hidden",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>&amp;&#0;'\"`",
    "a|b\nc",
    "\x00\x07\x1b[31m\x9b",
    "\ud800\udcff",
    "\u202egnp.exe\u2066",
    "שלום",
    "مرحبا",
    "日本語",
    "\U0001f600 \U0001f468\u200d\U0001f469",
    "e" + "\u0301" * 30,
    "\u2028\u2029\x85",
    "%s {0} {{x}} {% raw %}",
    "",
    " ",
    "../../etc/passwd",
    "fill: #ff0000",
    "W" * 5000,
]


def random_texts(num_texts, seed=0):
    """Strings of all planes of Unicode, lone surrogates and unassigned characters among them,
    and bits of markup.
    """
    generator = random.Random(seed)
    bits = [
        "$",
        "\\",
        "_",
        "<!--",
        "</script>",
        "|",
        "&",
        '"',
        "\n",
        "{{",
        "%",
        "\u202e",
        "\ud800",
        "\x1b[",
    ]
    for _ in range(num_texts):
        pieces = []
        for _ in range(generator.randrange(12)):
            highest = generator.choice((0x80, 0x80, 0x800, 0x10000, 0x110000))
            pieces.append(
                generator.choice(bits)
                if generator.random() < 0.4
                else chr(generator.randrange(highest))
            )
        yield "".join(pieces)


@pytest.mark.parametrize("seed", range(3))
def test_plain_text_is_one_visible_line_and_its_own_plain(seed):
    for label in [*HOSTILE, *random_texts(300, seed)]:
        shown = text.plain(label)
        assert text.plain(shown) == shown
        assert shown.encode().decode() == shown
        assert not {
            c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp", "Co", "Cn")
        }
        assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
        assert len(text.plain(label, limit=20)) <= 20


def test_plain_text_shows_what_it_escapes_and_keeps_both_ends():
    assert text.plain("a\x1b[1m\u202eb") == r"a\x1b[1m\u202eb"
    assert text.plain("a\nb\u2028c") == "a b c"
    assert text.plain("\udcff") == r"\udcff"
    assert text.plain("runs/first/" + "x" * 100 + "/last", limit=20) == "runs/first…xxxx/last"
    assert text.plain("\x1b" * 9, limit=10) == r"\x1b…\x1b"


@pytest.fixture(scope="module")
def canvas():
    figure = Figure(figsize=(4, 1), dpi=50)
    return FigureCanvasAgg(figure), figure.subplots()


@pytest.mark.parametrize("label", [*HOSTILE, *random_texts(8)])
def test_matplotlib_shows_a_label_as_it_is(canvas, label):
    drawn, axes = canvas
    axes.clear()
    (line,) = axes.plot([0, 1], label=text.figure_label(label))
    legend = axes.legend(loc="upper left")
    title = axes.set_title(text.figure_label(label))
    drawn.draw()  # a glyph that the font does not have is a warning, and so an error
    assert [handle.get_label() for handle in legend.legend_handles] == [line.get_label()]
    shown, is_formula = title._preprocess_math(title.get_text())
    assert not is_formula
    glyphs = text._glyphs(font_manager.findfont("DejaVu Sans"))
    expected = (
        "".join(c if ord(c) in glyphs else text._escape(c) for c in text.plain(label))
        or "(no name)"
    )
    if len(expected) <= text.LABEL_LIMIT:
        assert shown.removeprefix("\u2060") == expected
    else:
        assert len(shown) <= text.LABEL_LIMIT


def test_json_in_a_script_comes_back_and_holds_no_markup():
    for label in [*HOSTILE, *random_texts(300)]:
        # A high and a low surrogate side by side are one character in JSON.
        label = label.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        value = {label: [label, {"x": label}, None, 1]}
        embedded = text.json_for_script(value)
        assert json.loads(embedded) == value
        assert not set(embedded) & set("<>&\u2028\u2029")
        assert embedded.isascii()


def test_json_in_a_script_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        text.json_for_script({"loss": np.nan})


def test_markdown_cells():
    assert text.markdown_cell("a_b_2 _c_ __d a__b") == r"a_b_2 \_c\_ \_\_d a\_\_b"
    assert text.markdown_cell("a|b\nc `d` <b> & \\| *e*") == r"a\|b c \`d\` &lt;b> &amp; \\\| \*e\*"
    for label in HOSTILE:
        row = f"| {text.markdown_cell(label)} | 1 |"
        assert len(re.split(r"(?<!\\)(?:\\\\)*\|", row)) == 4
        assert len(row.splitlines()) == 1


def test_names_of_files_differ_and_stay_in_their_folder(tmp_path):
    texts = [*HOSTILE, ".", "..", ".hidden", "a/b", "%2E", "W" * 4999 + "V", *random_texts(200)]
    names = [text.file_name(each) for each in dict.fromkeys(texts)]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]*", name)
        assert len(name) <= 120
        (tmp_path / f"{name}.json").touch()
    assert len(list(tmp_path.iterdir())) == len(names)
    assert text.file_name("adam_1e-3") == "adam_1e-3"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (np.nan, "–"),
        (np.inf, "–"),
        (0.0, "0"),
        (3, "3"),
        (1.23456, "1.23"),
        (1e-5, "1.00e-05"),
        ("a", "a"),
    ],
)
def test_numbers(value, shown):
    assert text.format_number(value) == shown


def test_names_that_are_no_utf_8_become_text():
    assert text.well_formed("a\udcffb\ud800") == r"a\udcffb\ud800"
    assert text.well_formed("日本 $x$\x1b") == "日本 $x$\x1b"
