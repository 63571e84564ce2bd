"""Pieces of experiments: made once, exactly what they were,
and made again where they do not count.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_lab.results import content
from learned_opt_lab.results.resumable import Cells


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    horizons: tuple[int, ...] = (1, 2)


class Path(NamedTuple):
    rates: np.ndarray
    name: str


def cells(out, config=Config(), data=()):
    return Cells(out, "learned_opt_lab.papers.scales", config, Path, data=data)


def test_what_comes_back_is_what_was_made(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    value = {
        (1, "fixed"): [1, 1.0, 0.1 + 0.2, True, None, float("inf")],
        "of": Path(array, "x"),
        3: (np.float64(1e-300), jnp.float32(2), np.zeros((0, 2))),
    }
    found = cells(tmp_path)("a/b", lambda: value)
    again = cells(tmp_path)("a/b", lambda: pytest.fail("made twice"))
    for each in (found, again):
        assert list(each) == list(value)
        assert each[1, "fixed"] == value[1, "fixed"]
        assert [type(x) for x in each[1, "fixed"]] == [type(x) for x in value[1, "fixed"]]
        assert type(each["of"]) is Path
        np.testing.assert_array_equal(each["of"].rates, array)
        assert each["of"].rates.dtype == np.float32
        assert each["of"].rates.flags.f_contiguous
        assert each[3][0] == 1e-300
        assert type(each[3][0]) is np.float64
        assert (each[3][1].shape, each[3][2].shape) == ((), (0, 2))
    assert np.isnan(cells(tmp_path)("nan", lambda: float("nan")))


def test_damage_and_other_data_and_code_are_told_and_made_again(tmp_path, monkeypatch, capsys):
    made = []

    def make():
        made.append(1)
        return np.ones(3)

    cells(tmp_path)("piece", make)
    path = tmp_path / "cells" / "piece.npz"
    path.write_bytes(path.read_bytes()[:-9])
    cells(tmp_path)("piece", make)
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.with_name("piece.npz.damaged").exists()
    cells(tmp_path, data=np.ones(2))("piece", make)
    assert "was made with another data" in capsys.readouterr().err
    monkeypatch.setattr(content, "modules_code", lambda name, within: "other")
    cells(tmp_path, data=np.ones(2))("piece", make)
    assert "was made with another code" in capsys.readouterr().err
    assert len(made) == 4


def test_another_config_is_refused(tmp_path):
    cells(tmp_path)("piece", lambda: 1)
    with pytest.raises(ValueError, match=r"another experiment: config.seed is 0, not 1"):
        cells(tmp_path, Config(seed=1))("piece", lambda: 1)


def test_a_long_piece_keeps_checkpoints_until_it_is_made(tmp_path, monkeypatch):
    inner = cells(tmp_path).within("seeds")
    place = inner.checkpoints("0")
    assert place.parent == tmp_path / "cells" / "seeds"

    def make():
        place.mkdir(parents=True)
        (place / "state").write_text("half")
        return 1

    def fails():
        make()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inner("0", fails)
    assert inner.checkpoints("0") == place
    assert (place / "state").exists()
    (place / "state").unlink()
    place.rmdir()
    assert inner("0", make) == 1
    assert not place.exists()
    monkeypatch.setattr(content, "modules_code", lambda name, within: "other")
    assert cells(tmp_path).within("seeds").checkpoints("0") not in (place, inner.checkpoints("1"))


@pytest.mark.parametrize("value", [object(), {1}, np.array([None]), (x for x in ())])
def test_what_cannot_be_kept_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="a cell cannot hold"):
        cells(tmp_path)("piece", lambda: value)
    assert not (tmp_path / "cells" / "piece.npz").exists()


def test_code_of_the_modules_that_are_imported_counts_unless_they_draw(tmp_path, monkeypatch):
    package = tmp_path / "some_papers"
    package.mkdir()
    texts = {
        "__init__": "",
        "run": "from some_papers import part\nfrom some_papers.run_figures import X\nimport json",
        "part": "from some_papers.constants import RATE",
        "constants": "RATE = 1",
        "run_figures": "X = 1",
        "other": "",
    }

    def digest(**changed):
        for name, text in (texts | changed).items():
            (package / f"{name}.py").write_text(text)
        content.modules_code.cache_clear()
        return content.modules_code("some_papers.run", ("some_papers",))

    monkeypatch.syspath_prepend(tmp_path)
    plain = digest()
    assert digest(run_figures="X = 2", other="x") == plain
    assert digest(constants="RATE = 2") != plain
    assert digest() == plain
