"""Checkpoints of a stranger: links, pipes and names that lead out of them."""

import json
import os
import shutil
from pathlib import Path

import pytest

from outer_train.run import checkpoint_files
from outer_train.run.checkpoint import Checkpoints
from tests.support.outer_train.states import bits, make_state, newest


@pytest.fixture
def copied(three_checkpoints, tmp_path) -> Path:
    directory = tmp_path / "checkpoints"
    shutil.copytree(three_checkpoints, directory)
    return directory


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder of the user's that a link leads to."""
    folder = tmp_path / "own"
    (folder / "default").mkdir(parents=True)
    (folder / "notes").write_text("mine")
    return folder


def change_list(directory, **names):
    """Changes the list of checkpoint 3; None takes a name out."""
    path = directory / "3" / checkpoint_files.SEAL
    listed = json.loads(path.read_text()) | names
    path.write_text(json.dumps({k: v for k, v in listed.items() if v is not None}))


def falls_back(directory, reason):
    """Checkpoint 3 is told to be damaged and set aside, and the one before is read."""
    warnings = []
    step, state = newest(directory, warnings.append)
    assert (step, bits(state)) == (2, bits(make_state(2)))
    assert warnings == [f"checkpoint 3 is damaged ({reason}); trying the one before"]
    assert (directory / "damaged" / "3").is_dir()


def test_a_link_in_the_place_of_a_new_checkpoint_is_not_followed(copied, own):
    for name in ("4.unsealed", "5.unsealed"):
        (copied / name).symlink_to(own)
    assert newest(copied)[0] == 3
    with Checkpoints(copied) as checkpoints:
        checkpoints.save(4, make_state(4), 1.0)
    checkpoint_files.empty(copied, 6)
    (copied / "6.unsealed").rmdir()
    (copied / "6.unsealed").symlink_to(own)
    checkpoint_files.empty(copied, 6)
    assert sorted(each.name for each in own.rglob("*")) == ["default", "notes"]
    assert not (copied / "4").is_symlink()
    assert not (copied / "5.unsealed").is_symlink()
    assert newest(copied)[0] == 4


@pytest.mark.parametrize("name", ["/proc/kmsg", "/etc/none", "../2/files.json", "default/../../x"])
def test_a_list_that_leads_out_of_the_checkpoint_is_broken(copied, name):
    change_list(copied, **{name: 0})
    falls_back(copied, "its list of files is broken")


@pytest.mark.parametrize("name", ["no\0ne", "no\x1bne", "x" * 300])
def test_a_name_that_no_file_can_have_is_one_line(copied, name):
    change_list(copied, **{name: 0})
    falls_back(copied, f"{checkpoint_files.printable(name)} is missing")


def test_a_pipe_in_a_file_s_place_is_not_waited_for(copied):
    os.mkfifo(copied / "3" / "default" / "pipe")
    falls_back(copied, "default/pipe is no file")


def test_a_pipe_that_orbax_would_open_is_not_waited_for(copied):
    (copied / "3" / "default" / "_METADATA").unlink()
    os.mkfifo(copied / "3" / "default" / "_METADATA")
    change_list(copied, **{"default/_METADATA": None})
    falls_back(copied, "default/_METADATA is no file")


def test_a_pipe_in_a_checkpoint_without_a_list_is_not_waited_for(copied):
    (copied / "3" / checkpoint_files.SEAL).unlink()
    os.mkfifo(copied / "3" / "pipe")
    falls_back(copied, "pipe is no file")


def test_a_linked_folder_in_a_checkpoint_is_not_looked_into(copied, own):
    os.mkfifo(own / "pipe")
    (copied / "3" / "default" / "more").symlink_to(own)
    falls_back(copied, "default/more is no file")


@pytest.mark.parametrize("loss", ["1" + "0" * 400, "1e400", "[" * 100_000, '"x"', "null", "[1]"])
def test_a_loss_that_is_no_number_is_unknown(copied, loss):
    (copied / "2" / "metrics" / "metrics").write_text(f'{{"smoothed_loss": {loss}}}')
    checkpoint_files.prune(copied, 1)
    assert checkpoint_files.steps(copied)[-1] == 3


def test_a_checksum_takes_no_more_than_a_piece(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"0123456789" * 10)
    whole = checkpoint_files._checksum(tmp_path / "file")
    monkeypatch.setattr(checkpoint_files, "_PIECE", 7)
    assert checkpoint_files._checksum(tmp_path / "file", sync=True) == whole
