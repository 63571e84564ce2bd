"""Arrays of files whose names and shapes are not known before: whole, and within bounds."""

import io
import resource
import zipfile

import numpy as np
import pytest

from learned_opt.disk import npz


def packed(save=np.savez, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer


def test_what_comes_back_is_what_was_written():
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b/c": np.arange(3, dtype=">i2"),
        "none": np.zeros((0, 4), np.float32),
        "one": np.array(True),
        "text": np.array(["x", "yz"]),
    }
    for save in (np.savez, np.savez_compressed):
        found = npz.read_all(packed(save, **arrays), "file")
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].shape == array.shape
            assert found[name].dtype == array.dtype.newbyteorder("=")
            assert found[name].flags.f_contiguous == array.flags.f_contiguous


def test_a_small_file_of_much_is_refused_before_it_is_unpacked():
    bomb = packed(np.savez_compressed, a=np.zeros(3 << 23))
    assert bomb.seek(0, io.SEEK_END) < 1 << 18
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"file .* would unpack to 201326592"):
        npz.read_all(bomb, "file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 14


def test_many_small_arrays_are_refused():
    many = packed(**{str(i): np.zeros(0) for i in range(npz.MAX_ARRAYS + 1)})
    with pytest.raises(ValueError, match=r"file is damaged.* more than"):
        npz.read_all(many, "file")


def odd(name, content, **settings):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **settings) as archive:
        archive.writestr(name, content)
    return buffer


@pytest.mark.parametrize("file", [
    io.BytesIO(b""), io.BytesIO(b"PK"), packed(a=np.array([None])), odd("a.npy", b"x"),
    odd("notes.txt", b"x"), odd("a.npy", b"x", compression=zipfile.ZIP_LZMA),
    io.BytesIO(packed(a=np.ones(9)).getvalue()[:-30]),
])  # fmt: skip
def test_anything_else_is_one_value_error(file):
    with pytest.raises(ValueError, match=r"^file is damaged"):
        npz.read_all(file, "file")
