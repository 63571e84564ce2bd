"""What strangers wrote reaches a terminal as text: escaped, on one line, cut."""

import pytest

from outer_train.processes._printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, with ünïcödé and 数字", "plain text, with ünïcödé and 数字"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\r\nerror: b\t", "a\\r\\nerror: b\\t"),
        ("\u202egpj.exe\u2066\u200b\ufeff\u2028", "\\u202egpj.exe\\u2066\\u200b\\ufeff\\u2028"),
        ("\x7f\x9b31m\xa0", "\\x7f\\x9b31m\\xa0"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
        ("\\x1b", "\\\\x1b"),
        ("", ""),
    ],
)
def test_all_but_text_is_escaped(text, shown):
    assert printable(text) == shown


def test_it_is_cut_between_characters():
    assert printable("a" * 80) == "a" * 80
    assert printable("a" * 81) == "a" * 77 + "..."
    assert printable("a" * 10**6, 10) == "a" * 7 + "..."
    assert printable("\x1b" * 4, 12) == "\\x1b\\x1b..."
    assert printable("\x1b" * 3, 12) == "\\x1b" * 3
    assert [printable("\x1bab", limit) for limit in range(7)] == [
        "",
        ".",
        "..",
        "...",
        "...",
        "...",
        "\\x1bab",
    ]


@pytest.mark.parametrize("limit", [0, 1, 3, 17, 80])
def test_every_character_of_unicode_is_shown_within_the_limit(limit):
    for start in range(0, 0x110000, 251):
        shown = printable("".join(map(chr, range(start, min(start + 251, 0x110000)))), limit)
        assert len(shown) <= limit
        assert shown.isprintable()
        shown.encode()


def test_other_values_are_shown_by_their_repr():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert printable(deep) == "a list too large to show"
    assert printable(10**5000) == "a int too large to show"
    assert printable({"a": "\x1b"}) == "{'a': '\\x1b'}"
    assert printable(b"\xff") == "b'\\xff'"
