"""The folder of a piece of work: one error line for whatever is in its file, and safe warnings."""

import os

import pytest

from learned_opt_lab.results import folder, made, resumable

NAME = "evaluation.json"


def prepare(out):
    return folder.prepare_folder(out, NAME, {"suite": "quick"}, "evaluation", "choose another")


def test_a_folder_is_made_once_and_holds_one_piece_of_work(tmp_path):
    assert prepare(tmp_path / "out") == prepare(tmp_path / "out") == {"suite": "quick"}
    (tmp_path / "out" / NAME).write_text('{"suite": "long"}')
    with pytest.raises(ValueError, match='suite is "long", not "quick"; choose another'):
        prepare(tmp_path / "out")


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b'{"a":' * 40, b"\xff", b"1" * 10_000, b'{"a": NaN}', None]
)
def test_whatever_the_file_is_it_is_one_line(tmp_path, content):
    path = tmp_path / NAME
    os.mkfifo(path) if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is damaged") as caught:
        prepare(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"finished": true, "minutes": "x"}', None])
def test_what_was_noted_before_and_is_damaged_does_not_count(tmp_path, content):
    path = tmp_path / made.NAME
    os.mkfifo(path) if content is None else path.write_bytes(content)
    assert made._found(path, {"experiment": "a", "scale": 1, "settings": {}}) == {}


@pytest.mark.parametrize("content", [b"[" * 100_000, None])
def test_pieces_whose_settings_are_damaged_are_of_no_experiment(tmp_path, content):
    path = tmp_path / resumable.FOLDER / resumable.SETTINGS
    path.parent.mkdir()
    os.mkfifo(path) if content is None else path.write_bytes(content)
    assert not resumable.holds(tmp_path, "a", None)


def test_a_warning_is_one_line_without_commands_to_the_terminal(capsys):
    folder.warn("run\x1b]0;owned\x07\x1b[31m\nerror: none of this\u202e is damaged")
    shown = capsys.readouterr().err
    assert shown == (
        "warning: run\\x1b]0;owned\\x07\\x1b[31m error: none of this\\u202e is damaged\n"
    )
