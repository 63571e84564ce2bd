"""Cells: whole or not there.

Every kind of damage is told with the file's name, kept, and made again.
"""

import json
import os
import random
import subprocess

import numpy as np
import pytest

from learned_opt.disk import files
from learned_opt_lab.ablation import runs
from learned_opt_lab.evaluation.suite import run
from learned_opt_lab.results import cells

ARRAYS = {"test/loss": np.arange(12.0).reshape(3, 4), "train/loss": np.full(4, np.nan)}
RECORD = {"seconds_per_step": 0.1 + 0.2, "tuning": {"scores": [1e-300, 3.0]}}
MADE_OF = {"code": "c", "data": "d"}


@pytest.fixture
def stem(tmp_path):
    cells.write(tmp_path / "folder" / "a.b", ARRAYS, RECORD, MADE_OF)
    return tmp_path / "folder" / "a.b"


def read(stem, made_of=MADE_OF):
    told = []
    return cells.read(stem, made_of, told.append), told


def test_what_is_read_is_what_was_written(stem):
    stored, told = read(stem)
    assert told == []
    assert stored.record == RECORD
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(stored.arrays[name], array)
    assert sorted(path.name for path in stem.parent.iterdir()) == ["a.b.json", "a.b.npz"]
    assert read(stem.with_name("none")) == (None, [])


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_damage_is_told_and_kept(stem, suffix):
    """150 truncations and flipped bytes of each file:
    never another cell than the one written, never an exception.
    """
    path, rng = stem.with_name(f"a.b.{suffix}"), random.Random(0)
    whole = {each: each.read_bytes() for each in cells.paths(stem)}
    for _ in range(150):
        for each in stem.parent.iterdir():
            each.unlink()
        for each, content in whole.items():
            each.write_bytes(content)
        bad = bytearray(whole[path])
        if rng.random() < 0.4:
            del bad[rng.randrange(len(bad)) :]
        else:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        stored, told = read(stem)
        if stored is not None:  # a space for a line's end is the same JSON
            assert suffix == "json"
            assert json.loads(bad) == json.loads(whole[path])
            continue
        (line,) = told
        assert "\n" not in line
        assert "damaged" in line
        assert str(stem.parent / "a.b.") in line
        kept = stem.with_name(f"a.b.{suffix}.damaged")
        assert kept.read_bytes() == bytes(bad)
        assert not path.exists()


def test_a_second_damaged_file_does_not_replace_the_first(stem):
    for number in ("", "2"):
        cells.write(stem, ARRAYS, RECORD, MADE_OF)
        npz, _ = cells.paths(stem)
        npz.write_bytes(b"bad" + number.encode())
        assert read(stem)[0] is None
        assert npz.with_name(f"a.b.npz.damaged{number}").read_bytes() == b"bad" + number.encode()


@pytest.mark.parametrize("suffix", ["npz", "json"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(stem, suffix, kind):
    place = stem.with_name(f"a.b.{suffix}")
    place.unlink()
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    with pytest.raises(ValueError, match="no regular file"):
        cells.read_sealed(place)
    stored, (line,) = read(stem)
    assert stored is None
    assert f"{place} is damaged" in line
    assert not place.exists()
    cells.write(stem, ARRAYS, RECORD, MADE_OF)
    assert read(stem)[1] == []


def test_a_cell_that_would_fill_the_memory_is_damage(stem, monkeypatch):
    monkeypatch.setattr(np, "savez", np.savez_compressed)
    cells.write(stem, {"test/loss": np.zeros(1 << 22)}, RECORD, MADE_OF)
    stored, (line,) = read(stem)
    assert stored is None
    assert "would unpack to" in line


def test_half_a_cell_is_none_and_is_told(stem):
    cells.paths(stem)[0].unlink()
    stored, (line,) = read(stem)
    assert stored is None
    assert "a.b.npz is missing" in line


def test_a_cell_of_something_else_is_made_again(stem):
    stored, (line,) = read(stem, MADE_OF | {"data": "e"})
    assert stored is None
    assert line == f"{stem}.npz was made with another data; it is measured again"
    assert all(path.exists() for path in cells.paths(stem))


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_disk_that_fills_leaves_the_cell_that_was_there(stem, fails_at, monkeypatch):
    calls, real = [], files._write_to_disk

    def write(path, writer):
        calls.append(path)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        real(path, writer)

    monkeypatch.setattr(files, "_write_to_disk", write)
    with pytest.raises(OSError, match=r"No space left.*a\.b\.(npz|json)"):
        cells.write(stem, {"test/loss": np.zeros(2)}, {}, {})
    monkeypatch.undo()
    assert read(stem)[0].record == RECORD
    assert sorted(path.name for path in stem.parent.iterdir()) == ["a.b.json", "a.b.npz"]


def test_suite_and_ablation_read_the_same_way(tmp_path, capsys):
    run.write_cell(
        tmp_path / "s", run.Cell({"test": {"loss": np.ones(3)}}, {"seconds_per_step": 1.0})
    )
    runs.write_cell(tmp_path / "0.npz", {"held_out/test": np.ones(3), "seconds": np.asarray(1.0)})
    for path, reader in ((tmp_path / "s.npz", run.read_cell), (tmp_path / "0.npz", runs.read_cell)):
        argument = path.with_suffix("") if reader is run.read_cell else path
        assert reader(argument) is not None
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        assert reader(argument) is None
        assert f"warning: {path} is damaged" in capsys.readouterr().err


def test_a_real_disk_that_fills(tmp_path):
    """A tmpfs of 1 MB: the cell that has no room is none, those before are whole,
    and with room again it is written.
    """
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small tmpfs")
    try:
        large = {"test/loss": np.random.default_rng(0).random(40_000)}
        for number in range(3):
            cells.write(place / "cells" / str(number), large, RECORD, MADE_OF)
        with pytest.raises(OSError, match=r"No space left on device: '.*/cells/3\.(npz|json)'"):
            cells.write(place / "cells" / "3", large, RECORD, MADE_OF)
        for number in range(3):
            kept = read(place / "cells" / str(number))[0]
            np.testing.assert_array_equal(kept.arrays["test/loss"], large["test/loss"])
        assert read(place / "cells" / "3") == (None, [])
        assert {path.suffix for path in (place / "cells").iterdir()} == {".npz", ".json"}
        for path in cells.paths(place / "cells" / "0"):
            path.unlink()
        cells.write(place / "cells" / "3", large, RECORD, MADE_OF)
        assert read(place / "cells" / "3")[0].record == RECORD
    finally:
        subprocess.run(["umount", str(place)], check=True)
