"""One writer of files: it follows no link that lies in its way, and replaces no device or pipe."""

import os
import stat

import pytest

from learned_opt.disk import files

IN_PLACE = os.O_WRONLY | os.O_APPEND | os.O_CREAT


@pytest.fixture
def own(tmp_path):
    """A file of the user's that a stranger's link leads to."""
    path = tmp_path / "own"
    path.write_text("mine")
    return path


def test_a_link_under_the_pending_name_is_not_followed(tmp_path, own):
    place = tmp_path / "summary.json"
    files.pending_path(place).symlink_to(own)
    files.write_json(place, {"a": 1})
    assert own.read_text() == "mine"
    assert place.read_text() == '{\n  "a": 1\n}\n'
    assert sorted(each.name for each in tmp_path.iterdir()) == ["own", "summary.json"]


def test_a_link_in_the_place_is_replaced_and_its_target_is_not(tmp_path, own):
    place = tmp_path / "summary.json"
    place.symlink_to(own)
    files.write_text(place, "new")
    assert (own.read_text(), place.read_text()) == ("mine", "new")
    assert not place.is_symlink()


def test_the_mode_is_what_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "text")
        files.open_in_place(tmp_path / "b", IN_PLACE).close()
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640] * 2


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path, kind):
    place = tmp_path / "page.html"
    if kind == "device":
        try:
            os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except OSError:
            pytest.skip("making a device is not allowed here")
    else:
        os.mkfifo(pipe := tmp_path / ("pipe" if kind == "link to a pipe" else place.name))
        if pipe != place:
            place.symlink_to(pipe)
    before = os.lstat(place)
    with pytest.raises(OSError, match=r"is not replaced: '.*page\.html'"):
        files.write_text(place, "text")
    assert os.path.samestat(os.lstat(place), before)
    assert not files.pending_path(place).exists()


def test_the_system_s_own_names_are_not_replaced(tmp_path, monkeypatch, own):
    """As `/dev/stdout` is a link to the file where the output goes."""
    monkeypatch.setattr(os, "devnull", str(tmp_path / "null"))
    (tmp_path / "stdout").symlink_to(own)
    with pytest.raises(OSError, match="is not replaced"):
        files.write_text(tmp_path / "stdout", "text")
    assert (tmp_path / "stdout").is_symlink()


def test_of_files_that_belong_together_none_is_written_where_one_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writers = {tmp_path / name: lambda file: file.write(b"x") for name in ("a", "pipe")}
    with pytest.raises(OSError, match="is not replaced"):
        files.write_together(writers)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_what_is_changed_in_place_is_a_regular_file_and_no_link(tmp_path, own):
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {"link": "is a link", "broken": "is a link", "pipe": ""}.items():
        with pytest.raises(OSError, match=f"{reason}.*{tmp_path / name}"):
            files.open_in_place(tmp_path / name, IN_PLACE)
    assert own.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    with files.open_in_place(own, IN_PLACE) as file:
        file.write(b", too")
    assert own.read_text() == "mine, too"
