"""`metrics.jsonl`: one reader, which names a broken row, and a cut that loses nothing."""

import errno
import json
import os

import pytest

from outer_train.run import metrics


def row(step, **more):
    base = {"outer_step": step, "outer_loss": 1.5, "inner_steps": 10, "num_live_inner_steps": 10}
    return base | {"num_non_finite": 0, "seconds": None, "truncation_length": 2} | more


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row(step)) + "\n" for step in range(4)))
    return path


def change(path, number, line):
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))


BROKEN = [
    b"",
    b"\x00\x00\x00",
    b'{"outer_step": 1, "outer_l',
    b'{"outer_step": 1} {',
    b"\xff\xfe",
    b"[1]",
    b"null",
    b"{}",
    b'{"outer_step": "1"}',
    b'{"outer_step": -1}',
    b'{"outer_step": true}',
    b'{"outer_step": 1, "outer_loss": "x"}',
    b'{"outer_step": 1, "inner_steps": 1' + b"0" * 400 + b"}",
    b'{"outer_step": 1, "inner_steps": null}',
    b'{"outer_step": 1, "seconds": -1}',
    b"[" * 100_000,
    b"1" * 10_000,
    b'{"outer_step": 9223372036854775808}',
    b'{"outer_step": 1, "more": -9223372036854775809}',
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_one_broken_row_is_named_with_file_and_line(path, line):
    change(path, 2, line)
    before = path.read_bytes()
    for read in (metrics.read_rows, lambda path: metrics.cut(path, 3)):
        with pytest.raises(
            ValueError, match=r"metrics\.jsonl, line 2 is no row of metrics"
        ) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before
    broken = []
    assert [each["outer_step"] for each in metrics.read_rows(path, broken.append)] == [0, 2, 3]
    assert len(broken) == 1


def test_a_last_line_that_was_cut_is_left_out(path):
    rows = metrics.read_rows(path)
    for end in (b'{"outer_step": 4', b"\x00" * 100, b"\xff"):
        whole = path.read_bytes()
        path.write_bytes(whole + end)
        assert metrics.read_rows(path) == rows
        assert metrics.cut(path, 10) == rows
        assert path.read_bytes() == whole


@pytest.mark.parametrize("start", [b"", b"{", b'{"outer', b"\0\0", b'{"\0'])
def test_a_first_row_that_was_cut_is_left_out(path, start):
    path.write_bytes(start)
    assert metrics.cut(path, 10) == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize("text", [b"my notes", b"{my notes}", b"[1]", b" ", b"\0notes"])
def test_one_line_of_something_else_is_no_row_that_was_cut(path, text):
    path.write_bytes(text)
    for read in (metrics.read_rows, lambda path: metrics.cut(path, 0)):
        with pytest.raises(ValueError, match="line 1 is no row of metrics"):
            read(path)
    assert path.read_bytes() == text


def test_a_link_is_not_written_through(path, tmp_path):
    """A stranger's run may have one, to a file of the user's."""
    link = tmp_path / "run" / "metrics.jsonl"
    link.parent.mkdir()
    link.symlink_to(path)
    before = path.read_bytes()
    assert len(metrics.read_rows(link)) == 4
    for write in (lambda: metrics.cut(link, 2), lambda: metrics.MetricsWriter(link.parent)):
        with pytest.raises(OSError, match=f"is a link.*{link}"):
            write()
    assert path.read_bytes() == before


def test_what_json_has_no_name_for_is_unknown(path):
    change(path, 2, b'{"outer_step": 1, "outer_loss": NaN, "grad_norm": 1e999}')
    assert metrics.read_rows(path)[1] == {"outer_step": 1, "outer_loss": None, "grad_norm": None}


def test_line_ends_of_unicode_end_no_row(path):
    change(path, 2, json.dumps(row(1, note="a\u2028b\x85c"), ensure_ascii=False).encode())
    assert metrics.read_rows(path)[1]["note"] == "a\u2028b\x85c"


def test_a_missing_file_has_no_rows_and_is_not_made(tmp_path):
    assert metrics.read_rows(tmp_path / "metrics.jsonl") == []
    assert metrics.cut(tmp_path / "metrics.jsonl", 3) == []
    assert list(tmp_path.iterdir()) == []


def test_a_cut_writes_no_row_again(path):
    """In place: the kept bytes are not touched, so it works on a full disk."""
    inode, before = path.stat().st_ino, path.read_bytes().split(b"\n")
    assert [each["outer_step"] for each in metrics.cut(path, 2)] == [0, 1]
    assert path.stat().st_ino == inode
    assert path.read_bytes() == b"\n".join(before[:2]) + b"\n"


def test_a_cut_drops_rows_between_others(path):
    change(path, 2, json.dumps(row(7)).encode())
    assert [each["outer_step"] for each in metrics.cut(path, 4)] == [0, 2, 3]
    assert [each["outer_step"] for each in metrics.read_rows(path)] == [0, 2, 3]


def test_a_full_disk_is_told_with_the_file_s_name(tmp_path, monkeypatch):
    writer = metrics.MetricsWriter(tmp_path)

    class Full:
        def write(self, _text):
            pass

        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = flush

    writer._file.close()
    monkeypatch.setattr(writer, "_file", Full())
    writer.write(row(0))
    for attempt in (writer.flush, writer.close):
        with pytest.raises(OSError, match="No space left") as caught:
            attempt()
        assert caught.value.filename == str(tmp_path / "metrics.jsonl")
