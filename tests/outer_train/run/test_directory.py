"""A run directory: made whole, never emptied, and told when it was changed."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from outer_train.run import directory, lock, made_with


def create(path, config=None, **settings):
    settings = {"config_file": None, "overwrite": False} | settings
    return directory.create(path, config or {"type": "test", "steps": 3}, **settings)


@pytest.fixture(autouse=True)
def quick_versions(monkeypatch):
    """Asking git takes longer than all of these tests."""
    monkeypatch.setattr(made_with, "versions", lambda: {"python": "3"})


@pytest.fixture
def old_run(tmp_path):
    """With links inside, and a file of the user's."""
    run = create(tmp_path / "run", {"type": "old"})
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "theta.npz").write_bytes(b"theta")
    run.checkpoints.symlink_to(target)
    run.theta.symlink_to(target / "theta.npz")
    run.metrics.write_text("rows")
    (run.path / "figures").mkdir()
    (run.path / "notes.txt").write_text("mine")
    return run


def contents(path):
    return {
        str(each.relative_to(path)): os.readlink(each) if each.is_symlink() else each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_symlink() or each.is_file()
    }


def test_an_overwritten_run_is_moved_aside_whole(old_run, tmp_path):
    before, told = contents(old_run.path), []
    for number in (1, 2):
        run = create(old_run.path, {"number": number}, overwrite=True, tell=told.append)
        assert directory.open_run(run.path)[1] == {"number": number}
        assert {path.name for path in run.path.iterdir()} == {
            "config.json",
            "versions.json",
            "notes.txt",
        }
    mine = {"notes.txt": before.pop("notes.txt")}
    assert contents(tmp_path / "run.old-1") == before
    assert directory.open_run(tmp_path / "run.old-2")[1] == {"number": 1}
    assert mine == {"notes.txt": b"mine"}
    assert (tmp_path / "elsewhere" / "theta.npz").read_bytes() == b"theta"
    assert told == [
        f"the run that was in {run.path} is now in {tmp_path / f'run.old-{n}'}" for n in (1, 2)
    ]


def test_a_run_directory_that_is_a_link_stays_one(old_run, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "latest"
    link.symlink_to(old_run.path)
    create(link, {"type": "new"}, overwrite=True)
    assert link.is_symlink()
    assert directory.open_run(old_run.path)[1] == {"type": "new"}
    assert directory.open_run(tmp_path / "run.old-1")[1] == {"type": "old"}


def test_a_mount_point_keeps_the_old_run_within_it(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path]).returncode
    ):
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        create(path, {"type": "old"})
        create(path, {"type": "new"}, overwrite=True)
        assert directory.open_run(path)[1] == {"type": "new"}
        assert directory.open_run(path / "old-1")[1] == {"type": "old"}
    finally:
        subprocess.run(["umount", path], check=True)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("failing", ["write", "rename"])
def test_where_the_new_run_cannot_be_made_the_old_one_is_as_it_was(
    old_run, tmp_path, monkeypatch, failing
):
    before = contents(old_run.path)
    rename = os.rename

    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def rename_but_theta(source, target):
        if Path(source).name == "theta.npz" and ".old-" in str(target):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source))
        rename(source, target)

    if failing == "write":
        monkeypatch.setattr(directory.files, "write_together", full)
    else:
        monkeypatch.setattr(directory.os, "rename", rename_but_theta)
    with pytest.raises(OSError):  # noqa: PT011
        create(old_run.path, {"type": "new"}, overwrite=True)
    assert contents(old_run.path) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "run"]


@pytest.mark.parametrize(("name", "content"), [
    ("versions.json", {directory.CONFIG_HASH: "0"}), ("newest_checkpoint.json", {"outer_step": 3}),
])  # fmt: skip
def test_what_is_left_of_a_run_is_not_taken_for_the_new_run_s(tmp_path, name, content):
    path = tmp_path / "run"
    path.mkdir()
    (path / "metrics.jsonl").write_text("rows of another run")
    (path / name).write_text(json.dumps(content))
    run = create(path)
    assert not run.metrics.exists()
    assert (tmp_path / "run.old-1" / "metrics.jsonl").read_text() == "rows of another run"
    assert (tmp_path / "run.old-1" / name).exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("theirs", [
    ("checkpoints/mine", "figures/mine"), ("config.py",), ("wandb/mine",), ("metrics.jsonl",),
    ("versions.json",), ("theta.npz",),
])  # fmt: skip
def test_what_is_of_no_run_is_not_moved(tmp_path, theirs, overwrite):
    path = tmp_path / "project"
    for name in theirs:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    before = contents(path)
    listed = ", ".join(name.partition("/")[0] for name in theirs)
    with pytest.raises(ValueError, match=f"{path} holds no run, but has {listed} where"):
        create(path, overwrite=overwrite)
    assert contents(path) == before
    assert [each.name for each in tmp_path.iterdir()] == ["project"]


def test_files_under_other_names_are_in_nobody_s_way(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    create(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("moved", range(5))
def test_a_move_that_was_killed_can_be_made_again(tmp_path, moved):
    """What is left of a run stays provably of one, until nothing is."""
    run = create(tmp_path / "run", config_file=Path(__file__))
    run.newest_checkpoint.write_text('{"outer_step": 3}')
    run.metrics.write_text("rows")
    run.config.unlink()
    for name in directory._contents(run.path)[:moved]:
        (run.path / name).unlink()
    create(run.path)
    assert directory._contents(run.path) == ["versions.json", "config.json"]


def test_the_user_s_config_may_lie_in_the_run_that_is_moved(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("config = 1")
    run = create(tmp_path / "run", config_file=own)
    create(run.path, config_file=run.path / "config.py", overwrite=True)
    assert (run.path / "config.py").read_text() == "config = 1"
    assert (tmp_path / "run.old-1" / "config.py").read_text() == "config = 1"


def test_a_run_that_is_being_written_is_not_overwritten(old_run):
    process = subprocess.Popen(["sleep", "600"])
    try:
        owner = lock._me(old_run.path) | {
            "pid": process.pid,
            "started": lock.process_start(process.pid),
        }
        (old_run.path / lock.NAME).write_text(json.dumps(owner))
        before = contents(old_run.path)
        with pytest.raises(ValueError, match=f"being written by process {process.pid}"):
            create(old_run.path, overwrite=True)
        assert contents(old_run.path) == before
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_directory_is_refused(tmp_path, kind):
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"{path} is a .*not a directory"):
        create(path, overwrite=True)


def test_a_changed_config_is_told(tmp_path):
    run = create(tmp_path / "run", {"steps": 3, "rates": (0.1, 0.2)})
    stored = directory.open_run(run.path)[1]
    directory.check_config(run, stored)
    run.config.write_text(json.dumps(dict(reversed(stored.items())), indent=7))
    directory.check_config(run, directory.open_run(run.path)[1])  # only the looks
    with pytest.raises(
        ValueError, match=r"config\.json was changed since the run began\n.*--allow-changed-config"
    ):
        directory.check_config(run, stored | {"steps": 4})
    about = json.loads(run.versions.read_text())
    run.versions.write_text(
        json.dumps({k: v for k, v in about.items() if k != directory.CONFIG_HASH})
    )
    directory.check_config(run, stored | {"steps": 4})  # a run of an older version
    run.versions.unlink()
    directory.check_config(run, stored | {"steps": 4})


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000, b"1" * 10_000]
)
@pytest.mark.parametrize("name", ["config.json", "versions.json"])
def test_broken_json_is_named(tmp_path, name, content):
    run = create(tmp_path / "run")
    (run.path / name).write_bytes(content)
    read = (
        directory.config_file
        if name == "versions.json"
        else lambda run: directory.open_run(run.path)
    )
    with pytest.raises(
        ValueError, match=f"{run.path / name} (is no valid JSON|must hold a JSON object)"
    ):
        read(run)
