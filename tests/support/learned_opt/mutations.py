"""Damages of the two files of a theta, and of any JSON, drawn from a seeded generator."""

import copy
import io
import json
import struct
import warnings
import zipfile

import numpy as np

VALUES = (
    None, True, False, 0, -1, 3, 10**9, 2**63 - 1, 1e308, -0.5, 1e-320, "", "x", "mlp", "adam",
    "\x00", "\ud800", [], {}, [1], [[1]], [10**9], [10**9, 10**9], [1] * 300, {"a": 1},
    {"type": "Mlp"}, "stranger:make", "os:system", "subprocess:getoutput", "builtins:eval",
    ["stranger:make"],
)  # fmt: skip
TEXTS = (
    b"", b"[", b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe", b"\xef\xbb\xbf{}", b"NaN",
    b"1" * 5_000, b"1e999", b'{"optimizer": "stranger:make", "optimizer": "mlp"}', b'"\\ud800"',
    b"\x80\x04", b"null", b'"' + b"\\" * 9_999,
)  # fmt: skip
SWAPS = (
    (b"<f4", b">f4"), (b"<f4", b"|O "), (b"<f4", b"<i4"), (b"<f4", b"<V4"), (b"<f4", b"<c8"),
    (b"False", b"True "), (b"NUMPY\x01", b"NUMPY\x02"), (b"NUMPY\x01", b"NUMPY\x09"),
    (b"(4,)", b"(-4)"), (b", 4)", b",9**9"), (b"'descr'", b"((((((("), (b".npy", b".NPY"),
    (b"PK\x01\x02", b"PK\x01\x03"), (b"PK\x05\x06", b"PK\x05\x07"),
)  # fmt: skip


def mutated_pair(rng: np.random.Generator, npz: bytes, header: bytes) -> tuple[str, bytes, bytes]:
    """What was done, and both files; at least one is another than before."""
    kinds = (_flip, _cut, _swap, _directory, _members, _text, _value, _value, _code)
    kind = kinds[rng.integers(len(kinds))]
    if kind in (_text, _value, _code):
        return kind.__name__, npz, kind(rng, header)
    return kind.__name__, kind(rng, npz), header


def mutated_json(rng: np.random.Generator, value):
    """A copy in which one value, anywhere, is another, gone, or has a new neighbour."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    parent, key = places[rng.integers(len(places))]
    other = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    action = rng.integers(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        parent[f"{key}x"] = other
    elif action == 2 and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = (-parent[key], parent[key] * 1000, 0, 0.5, 10**6)[rng.integers(5)]
    else:
        parent[key] = other
    return value


def _places(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _flip(rng, data):
    data = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 9)):
        data[at] ^= 1 << rng.integers(8)
    return bytes(data)


def _cut(rng, data):
    low, high = sorted(rng.integers(len(data) + 1, size=2))
    return (data[:low], data[low:], data[:low] + data[high:], data[:high] + data[low:])[
        rng.integers(4)
    ]


def _swap(rng, data):
    old, new = SWAPS[rng.integers(len(SWAPS))]
    return data.replace(old, new, int(rng.integers(1, 3)))


def _directory(rng, data):
    """Another number in the directory:
    flags, method, checksum, sizes, lengths of names, position.
    """
    at = data.index(b"PK\x01\x02") + int(rng.choice([8, 10, 16, 20, 24, 28, 30, 32, 42]))
    number = int(rng.choice([0, 1, 8, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF]))
    return data[:at] + struct.pack("<I", number) + data[at + 4 :]


def _members(rng, data):
    """The same arrays and something with them:
    twice, renamed, empty, compressed zeros, nan, a thousand members.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    name, content = members[rng.integers(len(members))]
    zeros = io.BytesIO()
    np.save(zeros, np.zeros(4_000_000, np.float32))
    extra = [
        [(name, content)],
        [("extra.npy", content)],
        [("/", b"")],
        [(name.replace("layer", "later"), content)],
        [(name, zeros.getvalue())],
        [("zeros.npy", zeros.getvalue())],
        [(f"m{i}.npy", b"") for i in range(2_000)],
        [("code.py", b"raise SystemExit")],
    ][rng.integers(8)]
    kept = [each for each in members if rng.integers(2) or each[0] != extra[0][0]]
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for each in kept + extra:
            archive.writestr(*each)
    return out.getvalue()


def _text(rng, header):
    if rng.integers(2):
        return _flip(rng, header) if rng.integers(2) else _cut(rng, header)
    text = TEXTS[rng.integers(len(TEXTS))]
    return (text, text + header, header + text, header.replace(b": 1,", b": " + text + b",", 1))[
        rng.integers(4)
    ]


def _value(rng, header):
    return json.dumps(mutated_json(rng, json.loads(header))).encode()


def _code(rng, header):
    names = (
        "stranger:make",
        "subprocess:getoutput",
        "os:system",
        "builtins:exec",
        "learned_opt:load",
        "stranger.make:x",
    )
    header = json.loads(header) | {"optimizer": names[rng.integers(len(names))]}
    if rng.integers(2):
        header["kwargs"] = {"cmd": "touch executed"}
    return json.dumps(header).encode()
