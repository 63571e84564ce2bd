"""slow.txt names what there is: a line of a test
that was renamed would make it quick again, unseen.
"""

from pathlib import Path

TESTS = Path(__file__).parent
LINES = [
    line
    for line in (TESTS / "slow.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def test_every_line_names_tests():
    for line in LINES:
        path, _, name = line.partition("::")
        assert (TESTS / path).exists(), line
        if name:
            assert f"def {name.partition('[')[0]}" in (TESTS / path).read_text(encoding="utf-8"), (
                line
            )


def test_lines_are_sorted_and_name_nothing_twice():
    assert sorted(set(LINES)) == LINES
    assert not [(a, b) for a in LINES for b in LINES if a != b and b.startswith(a)]
