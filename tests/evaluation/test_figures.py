"""Figures are drawn from the files of a run directory; what they say is checked by reading the artists back."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from evaluation import figures


def write_run(path, merged=True, curves=True, num_steps=60):
    rows = [
        {
            "outer_step": i,
            "outer_loss": 2.0 * 0.97**i if i != 7 else None,
            "truncation_length": 50 + i,
            "inner_steps": 1600 * i,
            **({"weight_reparameterization": 0.5} if merged else {}),
        }
        for i in range(num_steps)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if curves:
        rng = np.random.default_rng(0)
        falling = np.exp(-np.arange(1, 41) / 20) + 0.05
        names = {"learned": 0.8, "untrained": 2.0, "adam_1e-3": 1.4, "adam_tuned": 0.82}
        np.savez(
            path / "heldout_curves.npz", **{k: v * falling + 0.01 * rng.random((20, 40)) for k, v in names.items()}
        )


def test_all_pngs_of_a_merged_run(tmp_path):
    write_run(tmp_path)
    paths = figures.training_figures(tmp_path)
    assert [path.name for path in paths] == ["outer_loss.png", "merge_weights.png", "heldout.png"]
    for path in paths:
        image = imread(path)
        assert path.parent == tmp_path / "figures"
        assert image.shape[1] >= 1000
        assert image[..., :3].std() > 0.02


def test_only_what_there_is_data_for(tmp_path):
    write_run(tmp_path, merged=False, curves=False)
    assert [path.name for path in figures.training_figures(tmp_path)] == ["outer_loss.png"]
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.training_figures(tmp_path / "empty")


def test_held_out_figure_names_every_line_and_states_the_means():
    curves = {name: np.full((3, 10), level) for name, level in (("learned", 0.5), ("adam_tuned", 0.25))}
    axes = figures.held_out_figure(curves).axes[0]
    names = {text.get_text(): text for text in axes.texts if text.get_position()[0] > 1}
    assert set(names) == {"learned", "Adam, tuned for each task"}
    assert axes.get_title("left") == "Held-out mean test loss: learned 0.5, tuned Adam 0.25"
    heights = sorted(text.get_position()[1] for text in names.values())
    assert heights[1] - heights[0] >= 0.05


def test_running_median_ignores_nan():
    values = np.array([1.0, 2.0, np.nan, 4.0, 100.0, 6.0])
    result = figures.running_median(values, window=3)
    np.testing.assert_allclose(result[1:5], [1.5, 3.0, 52.0, 6.0])
