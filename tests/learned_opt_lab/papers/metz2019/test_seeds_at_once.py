"""Seeds that are outer-trained in groups, so that no device needs more than it may."""

import jax
import numpy as np
import pytest

from learned_opt_lab.papers.metz2019 import outer_trained
from learned_opt_lab.papers.metz2019.outer_trained_setup import Config, families, resolve
from learned_opt_lab.results.resumable import Cells
from outer_train import SeedsResult, memory, particle_mesh

SMALL = resolve(
    Config(num_seeds=3, num_outer_steps=3, num_steps=8, num_pairs=2, num_tasks=2, num_points=2)
)


@pytest.mark.parametrize(
    ("kept", "expected"), [(22 * 10**9, 1), (60 * 10**9, 1), (14 * 10**9, 2), (10**9, 31)]
)
def test_as_many_as_fit_and_one_at_least(monkeypatch, kept, expected):
    monkeypatch.setattr(memory, "available_bytes", lambda devices: 80 * 10**9)
    assert outer_trained.seeds_at_once(kept, particle_mesh(2, 2)) == expected
    monkeypatch.setattr(memory, "available_bytes", lambda devices: None)
    assert outer_trained.seeds_at_once(kept, particle_mesh(2, 2)) == expected


def test_groups_give_what_all_at_once_give(monkeypatch, tmp_path):
    made, sizes = families(SMALL), []
    monkeypatch.setattr(outer_trained, "seeds_at_once", lambda kept, mesh: 3)
    cells = Cells(tmp_path, outer_trained.__name__, SMALL, SeedsResult)
    train = lambda: outer_trained.outer_train(SMALL, made.outer_train, "validation", cells)
    whole = train()

    def two(kept, mesh):
        sizes.append(kept)
        return 2

    monkeypatch.setattr(outer_trained, "seeds_at_once", two)
    found = train()
    assert sizes[0] > 0
    np.testing.assert_array_equal(found.points, whole.points)
    np.testing.assert_array_equal(found.inner_steps, whole.inner_steps)
    np.testing.assert_allclose(found.outer_loss, whole.outer_loss, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found.thetas,
        whole.thetas,
    )
    assert found.seconds.shape == whole.seconds.shape
