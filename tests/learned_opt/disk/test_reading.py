"""JSON that anyone may have written: strict, bounded, from regular files only."""

import pytest

from learned_opt.disk import reading

JSON = {
    "nested too deeply": b"[" * 40 + b"]" * 40,
    "nested too deeply|recursion": b"[" * 100_000,
    "is there twice": b'{"a": 1, "a": 2}',
    "NaN is no number": b'{"a": NaN}',
    "-Infinity is no number": b"[-Infinity]",
    "out of range": b"[1e999]",
    "more than 64 bits": b"[9223372036854775808]",
    "64 bits": b"1" * 100_000,
    "codec can't decode": "[1]".encode("utf-16"),
    "surrogates not allowed": rb'["\ud800"]',
    "more than": b" " * (reading.MAX_JSON_BYTES + 1),
    "Expecting": b"",
}


@pytest.mark.parametrize("message", JSON)
def test_json_is_read_strictly(message, tmp_path):
    (tmp_path / "x.json").write_bytes(JSON[message])
    with pytest.raises(ValueError, match=message) as error:
        reading.read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(error.value)
    # An editor's mark.
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[-9223372036854775808, 1.5, true]")
    assert reading.read_json(tmp_path / "x.json") == [-(2**63), 1.5, True]


def test_a_device_is_not_opened():
    with pytest.raises(ValueError, match="no regular file"):
        reading.open_regular("/dev/zero")
