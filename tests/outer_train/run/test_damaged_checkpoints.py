"""Damage is told and set aside, never deleted; an error that may pass is no damage."""

import errno
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from outer_train.run import checkpoint_files
from outer_train.run.checkpoint import Checkpoints
from tests.support.outer_train.states import bits, make_state, newest, no_warning


def delete_data(step: Path):
    shutil.rmtree(step / "default" / "d")


def cut_largest_file(step: Path):
    largest = max((path for path in step.rglob("d/*")), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def flip_bits(step: Path):
    for path in step.rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))


def empty_files(step: Path):
    for path in step.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


@pytest.mark.parametrize("damage", [delete_data, cut_largest_file, flip_bits, empty_files])
def test_damage_falls_back_to_the_one_before(three_checkpoints, tmp_path, damage):
    directory = tmp_path / "checkpoints"
    shutil.copytree(three_checkpoints, directory)
    damage(directory / "3")
    warnings = []
    with Checkpoints(directory) as checkpoints:
        step, state = checkpoints.restore_newest(make_state(0), warnings.append)
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(3, make_state(4), 1.0)
    assert step == 2
    assert bits(state) == bits(make_state(2))
    assert len(warnings) == 1
    assert warnings[0].startswith("checkpoint 3 is damaged")
    with Checkpoints(directory) as checkpoints:
        assert bits(checkpoints.restore_newest(make_state(0), no_warning)[1]) == bits(make_state(4))


def test_all_damaged_is_an_error(three_checkpoints, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(three_checkpoints, directory)
    for step in ("1", "2", "3"):
        cut_largest_file(directory / step)
    warnings = []
    with (
        Checkpoints(directory) as checkpoints,
        pytest.raises(ValueError, match=r"none of the checkpoints \[3, 2, 1\] can be read"),
    ):
        checkpoints.restore_newest(make_state(0), warnings.append)
    assert len(warnings) == 3


@pytest.fixture
def copied(three_checkpoints, tmp_path) -> Path:
    directory = tmp_path / "checkpoints"
    shutil.copytree(three_checkpoints, directory)
    return directory


def everything(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_files_of_others_are_no_damage(copied):
    for name in (".nfs0001", ".DS_Store", "default/.nfs0002"):
        (copied / "3" / name).write_bytes(b"x")
    (copied / ".DS_Store").write_bytes(b"x")
    (copied / "notes").mkdir()
    step, state = newest(copied)
    assert step == 3
    assert bits(state) == bits(make_state(3))
    assert (copied / "3" / ".nfs0001").exists()


def test_an_empty_newest_directory_hides_no_whole_checkpoint(copied):
    (copied / "7").mkdir()
    warnings = []
    step, state = newest(copied, warnings.append)
    assert (step, bits(state)) == (3, bits(make_state(3)))
    assert [line.split("(")[0] for line in warnings] == ["checkpoint 7 is damaged "]
    assert (copied / "damaged" / "7").is_dir()


def test_damaged_ones_are_kept_under_names_of_their_own(copied):
    for content in (b"first", b"second"):
        (copied / "9").mkdir()
        (copied / "9" / "data").write_bytes(content)
        assert newest(copied, lambda line: None)[0] == 3
    kept = {path.name: (path / "data").read_bytes() for path in (copied / "damaged").iterdir()}
    assert kept == {"9": b"first", "9-2": b"second"}


def test_where_none_can_be_read_nothing_is_moved_unless_allowed(copied):
    for step in ("1", "2", "3"):
        cut_largest_file(copied / step)
    before = everything(copied)
    with pytest.raises(ValueError, match="none of the checkpoints"):
        newest(copied, lambda line: None)
    assert everything(copied) == before
    with Checkpoints(copied) as checkpoints:
        assert checkpoints.restore_newest(make_state(0), lambda line: None, allow_none=True) is None
        assert checkpoints.steps() == []
    assert {path.name for path in (copied / "damaged").iterdir()} == {"1", "2", "3"}


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_an_error_that_may_pass_is_no_damage(copied, monkeypatch, code):
    before = everything(copied)
    open_regular = checkpoint_files.reading.open_regular

    def fail(path):
        if path.parent.name == "d":
            raise OSError(code, os.strerror(code), str(path))
        return open_regular(path)

    monkeypatch.setattr(checkpoint_files.reading, "open_regular", fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        newest(copied)
    assert str(copied / "3") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert everything(copied) == before
    monkeypatch.undo()
    assert newest(copied)[0] == 3


def test_an_error_of_tensorstore_that_may_pass_is_no_damage(copied, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ValueError(
            "UNAVAILABLE: Error reading x: Failed: Input/output error [os_error_code='5']"
        )

    monkeypatch.setattr(ocp.Checkpointer, "restore", fail)
    before = everything(copied)
    with pytest.raises(OSError, match="Input/output error") as caught:
        newest(copied)
    assert caught.value.errno == errno.EIO
    assert everything(copied) == before


def test_a_whole_checkpoint_of_another_config_is_no_damage(copied):
    before = everything(copied)
    like = make_state(0)._replace(theta={"w": jnp.zeros((3, 4))})
    with pytest.raises(
        ValueError,
        match=r"is of another config: \.theta\['w'\] is float32\[3, 2\] in it and float32",
    ):
        newest(copied, like=like)
    with pytest.raises(
        ValueError, match=r"\.theta\['more'\] is missing in it and float32\[1\] in the run"
    ):
        newest(
            copied,
            like=make_state(0)._replace(theta={"w": jnp.zeros((3, 2)), "more": jnp.zeros(1)}),
        )
    assert everything(copied) == before


def test_what_a_kill_left_of_a_checkpoint_is_recognised(copied):
    """Begun, written by Orbax but not sealed, sealed but not named, half deleted."""
    os.rename(copied / "3", copied / "3.unsealed")
    (copied / "3.unsealed" / "files.json").unlink()
    shutil.copytree(copied / "2", copied / "4.unsealed")
    os.rename(
        copied / "4.unsealed" / "default", copied / "4.unsealed" / "default.orbax-checkpoint-tmp"
    )
    (copied / "0.deleted" / "default").mkdir(parents=True)
    (copied / "5.orbax-checkpoint-tmp-17").mkdir()
    with Checkpoints(copied) as checkpoints:
        step, state = checkpoints.restore_newest(make_state(0), no_warning)
        assert (step, bits(state)) == (3, bits(make_state(3)))
        checkpoints.save(4, make_state(4), 1.0)
    assert {path.name for path in copied.iterdir()} == {"1", "2", "3", "4"} - {"1"}
    assert newest(copied)[0] == 4


def test_one_without_a_seal_is_read(copied):
    (copied / "3" / "files.json").unlink()
    step, state = newest(copied)
    assert (step, bits(state)) == (3, bits(make_state(3)))


def test_a_full_disk_is_one_line_and_leaves_the_whole_ones_whole(copied, monkeypatch):
    """The error of Orbax's thread comes out of the next call, whichever it is."""
    error = "Error writing: No space left on device [os_error_code='28']"
    text = f"RESOURCE_EXHAUSTED: {error}\nSource locations: x"

    def full(self):
        raise ValueError(text)

    monkeypatch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", full)
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        Checkpoints(copied) as checkpoints,
    ):
        checkpoints._writing = 4
    assert caught.value.errno == errno.ENOSPC
    assert len(str(caught.value).splitlines()) == 1
    monkeypatch.undo()
    assert newest(copied)[0] == 3
