"""Weights of the hub: two files of one commit, none too large, and nothing of them is run."""

import json
import sys

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt.disk import hub, reading
from tests.support.learned_opt.stub_hub import StubHub

ADDRESS = "hf://me/mine"


@pytest.fixture
def stub(tmp_path, monkeypatch):
    stub = StubHub(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub.module)
    return stub


@pytest.fixture
def saved(tmp_path):
    """A run directory with a theta, and another file that is nobody's business."""
    (tmp_path / "run").mkdir()
    optimizer = learned_opt.mlp(hidden_sizes=(4,))
    theta = optimizer.init(jax.random.key(0))
    learned_opt.save(tmp_path / "run", "mlp", {"hidden_sizes": [4]}, theta)
    (tmp_path / "run" / "secret.txt").write_text("secret")
    return tmp_path / "run", theta


def test_what_is_pushed_is_loaded(stub, saved):
    path, theta = saved
    pinned = learned_opt.push(ADDRESS, path, card="# Mine", private=True)
    assert pinned == "hf://me/mine@commit0/theta.npz"
    assert stub.repos["me/mine"][0].keys() == {"theta.npz", "theta.json", "README.md"}
    assert (stub.private, stub.message) == (True, "Add theta.npz")
    for address in (ADDRESS, pinned, "hf://me/mine/theta", "hf://me/mine@commit0"):
        _, found = learned_opt.load_theta(address)
        jax.tree.map(np.testing.assert_array_equal, found, theta)
    learned_opt.load(ADDRESS).init({"w": np.zeros(3, np.float32)})
    # The JSON first, and both of the commit that was asked about.
    assert stub.fetched[:2] == [("theta.json", "commit0"), ("theta.npz", "commit0")]


def test_several_thetas_in_one_place(stub, saved):
    pinned = learned_opt.push("hf://me/mine/small/best", saved[0])
    assert stub.repos["me/mine"][0].keys() == {"small/best.npz", "small/best.json"}
    learned_opt.push(ADDRESS, "general")
    assert learned_opt.load_theta(pinned)[1].keys() == saved[1].keys()


def test_a_revision_stays_what_it_was(stub, saved):
    first = learned_opt.push(ADDRESS, saved[0])
    learned_opt.push(ADDRESS, "mlp")
    shapes = [jax.tree.map(np.shape, learned_opt.load_theta(a)[1]) for a in (first, ADDRESS)]
    assert shapes[0] == jax.tree.map(np.shape, saved[1])
    assert shapes[0] != shapes[1]


@pytest.mark.parametrize(("name", "most"), [("theta.json", 2**20), ("theta.npz", hub.MAX_BYTES)])
def test_what_is_too_large_is_not_fetched(name, most, stub, saved):
    learned_opt.push(ADDRESS, saved[0])
    assert reading.MAX_JSON_BYTES == 2**20
    stub.sizes[name] = most + 1
    with pytest.raises(ValueError, match=f"{name} is too large: {most + 1} bytes"):
        learned_opt.load(ADDRESS)
    assert stub.fetched == []
    stub.sizes[name] = None  # the hub does not tell: the file itself is read within bounds
    learned_opt.load(ADDRESS)


def test_code_that_files_name_is_refused(stub, saved):
    learned_opt.push(ADDRESS, saved[0])
    header = json.loads(stub.repos["me/mine"][0]["theta.json"])
    header["optimizer"] = "os:system"
    stub.repos["me/mine"][0]["theta.json"] = json.dumps(header).encode()
    with pytest.raises(ValueError, match="os:system"):
        learned_opt.load(ADDRESS)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no theta.json"),
        ({"theta.json": b"{}"}, "there is no theta.npz"),
        ({"theta.json": b"{}", "theta.npz": b"\x80pickle"}, "format version"),
    ],
)
def test_damaged_repositories(files, message, stub):
    stub.repos["me/mine"] = [files]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        learned_opt.load(ADDRESS)


def test_what_is_not_there(stub):
    with pytest.raises(FileNotFoundError, match="hf://me/none cannot be had: Repository or rev"):
        learned_opt.load("hf://me/none")


def test_without_the_network_what_was_fetched_before_is_taken(stub, saved):
    learned_opt.push(ADDRESS, saved[0])
    stub.is_there = False
    with pytest.raises(OSError, match="was not before: no network"):
        learned_opt.load(ADDRESS)
    stub.is_there = True
    learned_opt.load(ADDRESS)
    stub.is_there = False
    jax.tree.map(np.testing.assert_array_equal, learned_opt.load_theta(ADDRESS)[1], saved[1])


@pytest.mark.parametrize(
    "address",
    [
        "hf://", "hf://name", "hf://a/b@", "hf://a/b/", "hf://../b", "hf://a/..", "hf://a/b/../c",
        "hf://a/b@../c", "hf://a/b?x", "hf://a/b c", "hf://a/b\n", "hf://a//b", "hf://a/b/.git",
        "hf://a/b--c", "hf://ä/b", "hf://a/b@main@x", "hf://a/" + "b" * 97,
    ],
)  # fmt: skip
def test_bad_addresses(address, stub, saved):
    for call in (lambda: learned_opt.load(address), lambda: learned_opt.push(address, saved[0])):
        with pytest.raises(ValueError, match="no address of the hub") as error:
            call()
        assert "\n" not in str(error.value)
    assert stub.fetched == []


def test_what_could_not_be_loaded_is_not_pushed(stub, saved):
    path = saved[0] / "theta.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"theta\.npz"):
        learned_opt.push(ADDRESS, saved[0])
    with pytest.raises(FileNotFoundError):
        learned_opt.push(ADDRESS, saved[0] / "none")
    assert stub.repos == {}


def test_without_the_library_the_extra_is_named(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: learned_opt.load(ADDRESS), lambda: learned_opt.push(ADDRESS, saved[0])):
        with pytest.raises(ValueError, match=r'pip install "learned-opt\[hub\]"') as error:
            call()
        assert "\n" not in str(error.value)
