"""An experiment that is killed again and again, and goes on each time,
gives what one gives that was not.
"""

import pytest

from learned_opt_lab.papers.donini2019 import hypergradient_surfaces
from learned_opt_lab.papers.metz2019 import outer_trained, outer_training_curves
from learned_opt_lab.papers.metz2019.outer_trained_setup import Config
from learned_opt_lab.papers.wang2021 import step_size_generalization
from learned_opt_lab.results import cells as cell_files
from outer_train import side_by_side

SMALL = {
    hypergradient_surfaces: hypergradient_surfaces.Config(num_steps=20),
    step_size_generalization: step_size_generalization.Config(
        dim=10, cells=((10, 1.0), (20, 0.5)), num_tasks=4
    ),
    outer_training_curves: Config(
        num_seeds=2, num_outer_steps=3, num_steps=8, num_pairs=2, num_tasks=2, budget=2,
        num_points=1,
    ),
}  # fmt: skip
"""Module -> config."""


class _KilledError(BaseException):
    pass


def killed_after(number, module, config, out, monkeypatch):
    """Runs until all is done; each run but the last dies when it has written so many pieces and
    computed one more.
    """
    real, writes, runs = cell_files.write, [], 0

    def write(*args):
        if len(writes) == number:
            raise _KilledError
        writes.append(args)
        real(*args)

    monkeypatch.setattr(cell_files, "write", write)
    while True:
        writes.clear()
        runs += 1
        try:
            module.run(config, out)
        except _KilledError:
            continue
        return runs


@pytest.mark.parametrize(("module", "number"), list(zip(SMALL, (1, 1, 8), strict=True)))
def test_what_was_killed_gives_what_was_not(module, number, monkeypatch, tmp_path):
    monkeypatch.setattr(side_by_side, "SECONDS_TO_CHECKPOINT", 0.0)
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(outer_trained, "seeds_at_once", lambda kept, mesh: 1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    module.run(SMALL[module], whole)
    assert killed_after(number, module, SMALL[module], killed, monkeypatch) > 1
    names = {path.name for path in whole.iterdir() if path.is_file()}
    assert "result.json" in names
    assert {path.name for path in killed.iterdir() if path.is_file()} == names
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
