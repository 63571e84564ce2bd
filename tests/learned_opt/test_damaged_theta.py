"""Whatever is done to a theta's files: no code, no hang, no memory beyond their size, one kind of error."""

import collections
import io
import json
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
from learned_opt import files, reading
from learned_opt.base import LearnedOptimizer
from tests.learned_opt.mutations import mutated_pair

KWARGS = {"hidden_sizes": (4,), "timescales": (3.0, 10.0)}
ALLOWANCE = 32 << 20
"""Bytes beside twice the honest files: what JAX takes to find the shapes of a theta, and a theta of 16 MiB."""
SECONDS = 60.0
"""For one load on a busy machine."""


@pytest.fixture
def saved(tmp_path):
    theta = learned_opt.mlp(**KWARGS).init(jax.random.key(3))
    return learned_opt.save(tmp_path / "theta.npz", "mlp", KWARGS, theta), theta


def change_header(path, **changes):
    file = path.with_suffix(".json")
    header = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None}
    file.write_text(json.dumps(header))


def peak_of(load):
    """Most bytes that were taken at once."""
    tracemalloc.start()
    try:
        load()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def refused(path, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        learned_opt.load_theta(path)
    assert str(path.parent) in str(error.value)


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
def test_300_mutations(saved, tmp_path, monkeypatch, capsys):
    counts = fuzz(300, saved, tmp_path, monkeypatch)
    with capsys.disabled():
        print(f"\ntheta files: 300 mutations, {dict(counts)}, 0 executed, 0 hung")
    assert sum(counts.values()) == 300


def write_npz(path, arrays, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())


def test_a_small_file_takes_little_memory_whatever_it_would_unpack_to(saved):
    path, _ = saved
    arrays = dict(np.load(path))
    write_npz(path, arrays | {"layer_0/weights": np.zeros((9, 2_000_000), np.float32)}, zipfile.ZIP_DEFLATED)
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
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # one number more than the header's shape holds
        for info in zipfile.ZipFile(io.BytesIO(short)).infolist():
            content = zipfile.ZipFile(io.BytesIO(short)).read(info)
            archive.writestr(info.filename, content + b"\0\0\0\0" * (info.filename == f"{name}.npy"))
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
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(tmp_path / "link.npz")[1], theta)
    for name in ("/dev/zero", tmp_path / "fifo"):
        if name != "/dev/zero":
            os.mkfifo(name)
        with pytest.raises(ValueError, match="no regular file"):
            learned_opt.load_theta(name)
    for make in (os.mkfifo, os.mkdir):
        path.with_suffix(".json").unlink()
        make(path.with_suffix(".json"))
        refused(path, "no regular file")
    with pytest.raises(ValueError, match="no regular file"):
        reading.open_regular("/dev/zero")


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
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[-9223372036854775808, 1.5, true]")  # an editor's mark
    assert reading.read_json(tmp_path / "x.json") == [-(2**63), 1.5, True]


def with_leaf(theta, value):
    return {**theta, "layer_1": {**theta["layer_1"], "bias": value}}


@pytest.mark.parametrize("value", [jnp.array([jnp.nan, 0.0]), jnp.array([0.0, jnp.inf])])
def test_a_theta_that_is_not_finite_is_neither_saved_nor_loaded(saved, value):
    path, theta = saved
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not finite; layer_1/bias"):
        learned_opt.save(path, "mlp", KWARGS, with_leaf(theta, value))
    assert path.read_bytes() == before
    write_npz(path, dict(np.load(path)) | {"layer_1/bias": np.asarray(value)})
    change_header(path, sha256=None)
    refused(path, "not finite; layer_1/bias")


def test_a_number_too_large_for_float32_is_refused(saved):
    path, _ = saved
    write_npz(path, dict(np.load(path)) | {"layer_1/bias": np.array([1e300, 0.0])})
    change_header(path, sha256=None, dtypes=None)
    refused(path, "not finite; layer_1/bias")


def two(**kwargs):
    """An optimizer whose theta has two leaves of one name."""
    return LearnedOptimizer(lambda key: {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}, lambda theta: None)


def plain(**kwargs):
    return LearnedOptimizer(lambda key: jnp.ones(2), lambda theta: None)


def test_save_refuses_what_would_not_come_back(tmp_path, saved):
    _, theta = saved
    own = f"{__name__}:plain"
    cases = {
        "floating types": ("mlp", KWARGS, with_leaf(theta, np.zeros(2, np.int32)), None),
        "of type bfloat16": ("mlp", KWARGS, with_leaf(theta, jnp.zeros(2, jnp.bfloat16)), None),
        "is no array": ("mlp", KWARGS, with_leaf(theta, jax.random.key(0)), None),
        "Out of range float": (own, {"x": float("nan")}, jnp.ones(2), plain),
        "would come back as": (own, {"x": {1: 2}}, jnp.ones(2), plain),
        "not JSON serializable": (own, {"x": jnp.ones(2)}, jnp.ones(2), plain),
        "have the same name": (f"{__name__}:two", {}, {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}, two),
        "64 bits": (own, {"x": 2**64}, jnp.ones(2), plain),
        "more than 1048576 bytes": (own, {"x": "x" * (1 << 20)}, jnp.ones(2), plain),
    }
    for message, (name, kwargs, value, factory) in cases.items():
        with pytest.raises(ValueError, match=message):
            learned_opt.save(tmp_path / "new" / "t", name, kwargs, value, factory=factory)
    assert not (tmp_path / "new").exists()
    path = learned_opt.save(tmp_path / "t", own, {"x": ((1, 2.5), None, "ü")}, jnp.ones(2), factory=plain)
    np.testing.assert_array_equal(learned_opt.load_theta(path, factory=plain)[1], np.ones(2))


def test_a_save_that_was_killed_between_its_two_moves_is_read_whole(saved, tmp_path, monkeypatch):
    path, theta = saved
    other = learned_opt.mlp(**KWARGS).init(jax.random.key(4))
    newer = learned_opt.save(tmp_path / "newer" / "theta.npz", "mlp", KWARGS, other)
    waiting = files.pending_path(path.with_suffix(".json"))
    waiting.write_bytes(newer.with_suffix(".json").read_bytes())
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], theta)  # before the first move
    path.write_bytes(newer.read_bytes())
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)  # between the two
    path.with_suffix(".json").unlink()
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)  # the very first save
    waiting.unlink()
    change_header(newer)
    path.with_suffix(".json").write_bytes(newer.with_suffix(".json").read_bytes())
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)


def test_weights_of_another_save_are_not_taken_for_these(saved, tmp_path):
    path, _ = saved
    other = learned_opt.mlp(**KWARGS).init(jax.random.key(4))
    newer = learned_opt.save(tmp_path / "newer" / "theta.npz", "mlp", KWARGS, other)
    path.write_bytes(newer.read_bytes())
    refused(path, "do not belong together")
    change_header(path, sha256=None)  # as files of before checksums
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(path)[1], other)
