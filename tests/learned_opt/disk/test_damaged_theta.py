"""Whatever is done to a theta's files:
no code, no hang, no memory beyond their size, one kind of error.
"""

import collections
import io
import os
import sys
import time
import tracemalloc
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from tests.support.learned_opt.mutations import mutated_pair
from tests.support.learned_opt.saved_theta import change_header, refused, saved, write_npz

__all__ = ["saved"]

ALLOWANCE = 32 << 20
"""Bytes beside twice the honest files:
what JAX takes to find the shapes of a theta, and a theta of 16 MiB."""
SECONDS = 60.0
"""For one load on a busy machine."""


def peak_of(load):
    """Most bytes that were taken at once."""
    tracemalloc.start()
    try:
        load()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def fuzz(number, saved, tmp_path, monkeypatch):
    path, theta = saved
    npz, header = path.read_bytes(), path.with_suffix(".json").read_bytes()
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    counts = collections.Counter()
    for seed in range(number):
        kind, new_npz, new_header = mutated_pair(np.random.default_rng(seed), npz, header)
        path.write_bytes(new_npz)
        path.with_suffix(".json").write_bytes(new_header)
        start, found = time.monotonic(), []
        try:
            peak = peak_of(lambda: found.append(learned_opt.load_theta(path)))  # noqa: B023  Called at once.
            counts["loaded"] += 1
            assert peak < 2 * (len(npz) + len(header)) + ALLOWANCE, (seed, kind, peak)
            optimizer, loaded = found[0]
            jax.tree.map(np.testing.assert_array_equal, loaded, theta)
            jax.eval_shape(optimizer.optimizer(loaded).init, jnp.ones(3))
        except (ValueError, OSError) as error:
            counts[type(error).__name__] += 1
            found.append(str(error))
        assert len(found) == 1
        if isinstance(found[0], str):
            assert str(path.parent) in found[0], (seed, kind, found)
            assert len(found[0]) < 1500, (seed, kind)
        assert time.monotonic() - start < SECONDS, (seed, kind)
        assert not (tmp_path / "executed").exists(), (seed, kind)
    assert "stranger" not in sys.modules
    return counts


def test_mutations(saved, tmp_path, monkeypatch):
    counts = fuzz(40, saved, tmp_path, monkeypatch)
    assert sum(counts.values()) == 40
    assert counts["loaded"] < 15


@pytest.mark.slow
def test_300_mutations(saved, tmp_path, monkeypatch, tell):
    counts = fuzz(300, saved, tmp_path, monkeypatch)
    tell(f"theta files: 300 mutations, {dict(counts)}, 0 executed, 0 hung")
    assert sum(counts.values()) == 300


def test_a_small_file_takes_little_memory_whatever_it_would_unpack_to(saved):
    path, _ = saved
    arrays = dict(np.load(path))
    write_npz(
        path,
        arrays | {"layer_0/weights": np.zeros((9, 2_000_000), np.float32)},
        zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < 1 << 17
    assert peak_of(lambda: refused(path, "another shape; layer_0/weights is")) < ALLOWANCE
    change_header(path, kwargs={"hidden_sizes": [2_000_000], "timescales": [3.0, 10.0]})
    wide = {"layer_0/bias": (2_000_000,), "layer_1/weights": (2_000_000, 2)}
    rest = {name: np.zeros(shape, np.float32) for name, shape in wide.items()}
    rest["layer_0/weights"] = np.zeros((9, 2_000_000), np.float32)
    write_npz(path, arrays | rest, zipfile.ZIP_DEFLATED)
    del rest
    assert peak_of(lambda: refused(path, "would unpack to 96000008")) < ALLOWANCE


@pytest.mark.parametrize("sizes", [[10**9], [10**9, 10**9], [2**31 - 1], [1] * 300])
def test_an_optimizer_past_any_memory_is_refused(saved, sizes):
    path, _ = saved
    change_header(path, kwargs={"hidden_sizes": sizes})
    assert peak_of(lambda: refused(path, "cannot be used")) < ALLOWANCE


def test_a_directory_of_very_many_members_is_not_read(saved):
    path, _ = saved
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_000):
            archive.writestr(f"{i}.npy", b"")
    assert peak_of(lambda: refused(path, "damaged")) < 16 << 20


def test_other_forms_of_the_same_arrays_load(saved):
    path, theta = saved
    arrays = dict(np.load(path))
    forms = {
        "compressed": lambda x: x,
        "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
        "Fortran order": np.asfortranarray,
    }
    for form, convert in forms.items():
        method = zipfile.ZIP_DEFLATED if form == "compressed" else zipfile.ZIP_STORED
        write_npz(path, {name: convert(x) for name, x in arrays.items()}, method)
        change_header(path, sha256=None)
        jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], theta)


def patched(data, offset, number, size=4):
    at = data.index(b"PK\x01\x02") + offset
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(saved, method):
    path, _ = saved
    arrays = dict(np.load(path)) | {"layer_0/weights": np.zeros((9, 3_000_000), np.float32)}
    write_npz(path, arrays, method)
    assert peak_of(lambda: refused(path, "unknown method")) < ALLOWANCE


def test_lies_of_a_zip_directory_are_noticed(saved):
    path, _ = saved
    honest = path.read_bytes()
    content = zipfile.ZipFile(path).read(zipfile.ZipFile(path).infolist()[0])
    for data in (
        patched(honest, 24, len(content) - 4),  # uncompressed size
        patched(honest, 24, len(content) + 4),
        patched(honest, 24, 0x7FFFFFFF),
        patched(honest, 20, len(content) - 4),  # size in the file
        patched(honest, 16, 0),  # checksum
        patched(honest, 8, 1, 2),  # says that it is encrypted
        patched(honest, 10, 14, 2),  # LZMA
        patched(honest, 42, 1),  # position
    ):
        path.write_bytes(data)
        refused(path, "damaged|belong together")
    arrays = dict(np.load(io.BytesIO(honest)))
    write_npz(path, arrays, zipfile.ZIP_DEFLATED)
    short = path.read_bytes()
    name = next(iter(arrays))
    whole = io.BytesIO()
    np.save(whole, np.append(arrays[name].ravel(), 0).astype(np.float32))
    # One number more than the header's shape holds.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in zipfile.ZipFile(io.BytesIO(short)).infolist():
            content = zipfile.ZipFile(io.BytesIO(short)).read(info)
            archive.writestr(
                info.filename, content + b"\0\0\0\0" * (info.filename == f"{name}.npy")
            )
    refused(path, "says that it has")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(saved):
    path, _ = saved
    arrays = dict(np.load(path))
    with zipfile.ZipFile(path, "a") as archive:
        content = io.BytesIO()
        np.save(content, next(iter(arrays.values())))
        archive.writestr(f"{next(iter(arrays))}.npy", content.getvalue())
    refused(path, "twice")


def test_only_regular_files_are_opened(saved, tmp_path):
    path, theta = saved
    os.symlink(path, tmp_path / "link.npz")
    os.symlink(path.with_suffix(".json"), tmp_path / "link.json")
    jax.tree.map(
        np.testing.assert_array_equal, learned_opt.load_theta(tmp_path / "link.npz")[1], theta
    )
    for name in ("/dev/zero", tmp_path / "fifo"):
        if name != "/dev/zero":
            os.mkfifo(name)
        with pytest.raises(ValueError, match="no regular file"):
            learned_opt.load_theta(name)
    for make in (os.mkfifo, os.mkdir):
        path.with_suffix(".json").unlink()
        make(path.with_suffix(".json"))
        refused(path, "no regular file")
