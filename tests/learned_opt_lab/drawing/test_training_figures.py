"""Figures are drawn from the files of a run directory;
what they say is checked by reading the artists back.
"""

import json
import os

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from learned_opt_lab.drawing import text, training_figures
from learned_opt_lab.drawing.variance_figure import variance_figure
from outer_train.run import metrics


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
    (path / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    if curves:
        rng = np.random.default_rng(0)
        falling = np.exp(-np.arange(1, 41) / 20) + 0.05
        names = {"learned": 0.8, "untrained": 2.0, "adam_1e-3": 1.4, "adam_tuned": 0.82}
        np.savez(
            path / "heldout_curves.npz",
            **{k: v * falling + 0.01 * rng.random((20, 40)) for k, v in names.items()},
        )


def test_all_pngs_of_a_merged_run(tmp_path):
    write_run(tmp_path)
    paths = training_figures.training_figures(tmp_path)
    assert [path.name for path in paths] == ["outer_loss.png", "merge_weights.png", "heldout.png"]
    for path in paths:
        image = imread(path)
        assert path.parent == tmp_path / "figures"
        assert image.shape[1] >= 1000
        assert image[..., :3].std() > 0.02


def test_only_what_there_is_data_for(tmp_path):
    write_run(tmp_path, merged=False, curves=False)
    assert [path.name for path in training_figures.training_figures(tmp_path)] == ["outer_loss.png"]
    with pytest.raises(ValueError, match="nothing to draw"):
        training_figures.training_figures(tmp_path / "empty")


def test_the_held_out_figure_draws_the_means_that_it_states():
    rng = np.random.default_rng(1)
    curves = {name: rng.lognormal(size=(5, 10)) for name in ("learned", "adam_tuned")}
    axes = training_figures.held_out_figure(curves).axes[0]
    lines = {line.get_color(): line.get_ydata() for line in axes.lines}
    names = {text.get_text(): text for text in axes.texts if text.get_position()[0] > 1}
    colors = {"learned": training_figures.BLUE, "adam_tuned": training_figures.BLACK}
    for name, losses in curves.items():
        np.testing.assert_allclose(lines[colors[name]], losses.mean(axis=0))
    ends = {name: f"{losses[:, -1].mean():.3g}" for name, losses in curves.items()}
    assert set(names) == {f"learned: {ends['learned']}", f"tuned Adam: {ends['adam_tuned']}"}
    first, second = axes.get_title("left").split("\n")
    assert first == "Held-out test loss, mean over 5 tasks; band: 95 % interval of the mean"
    learned, tuned = (f"{curves[name].mean():.3g}" for name in ("learned", "adam_tuned"))
    assert second == f"Mean over all 10 steps: learned {learned}, tuned Adam {tuned}"
    assert axes.get_ylabel() == "test loss, mean over tasks"
    heights = sorted(text.get_position()[1] for text in names.values())
    assert heights[1] - heights[0] >= 0.05


def test_the_band_is_the_interval_of_the_mean():
    losses = np.random.default_rng(2).normal(3.0, 1.0, (400, 6))
    low, high = training_figures._interval_of_mean(losses)
    error = 1.96 * losses.std(axis=0) / 400**0.5
    np.testing.assert_allclose(low, losses.mean(axis=0) - error, atol=0.02)
    np.testing.assert_allclose(high, losses.mean(axis=0) + error, atol=0.02)
    assert np.isnan(training_figures._interval_of_mean(losses[:1])).all()


def test_running_median_ignores_nan():
    values = np.array([1.0, 2.0, np.nan, 4.0, 100.0, 6.0])
    result = training_figures.running_median(values, window=3)
    np.testing.assert_allclose(result[1:5], [1.5, 3.0, 52.0, 6.0])


UNKNOWN = (None, float("nan"), float("inf"), -float("inf"), 1e308)


@pytest.mark.parametrize("num_rows", [1, 2, 30])
@pytest.mark.parametrize("value", [*UNKNOWN, -3.0, 0.0])
def test_runs_of_one_unknown_or_negative_loss_are_drawn(tmp_path, value, num_rows):
    row = {
        "outer_loss": value,
        "weight_reparameterization": value,
        "truncation_length": value,
        "inner_steps": value,
    }
    rows = [row | {"outer_step": i} for i in range(num_rows)]
    figure = training_figures.outer_loss_figure(rows)
    is_known = value in (-3.0, 0.0)
    title = figure.get_suptitle()
    assert title == (
        f"Outer loss, mean of {min(num_rows, 10) // 2 or 1} steps: "
        f"{value:.3g} at first, {value:.3g} at last"
        if is_known
        else f"Outer loss: unknown, not one of {num_rows} is finite"
    )
    for line in figure.axes[0].lines:
        assert np.isnan(line.get_ydata()).all() != is_known
    for i, each in enumerate((figure, training_figures.merge_weight_figure(rows))):
        assert training_figures.save(each, tmp_path / f"{i}.png").stat().st_size > 1000


def test_the_outer_losses_that_the_title_states_are_drawn_and_those_of_the_summary():
    rng = np.random.default_rng(3)
    rows = [
        {"outer_step": i, "inner_steps": i, "outer_loss": float(x), "seconds": None}
        | {"num_non_finite": 0}
        for i, x in enumerate(rng.lognormal(size=200))
    ]
    summary = metrics.summarize(rows)
    first, last = summary["outer_loss_first"], summary["outer_loss_last"]
    figure = training_figures.outer_loss_figure(rows)
    title = f"Outer loss, mean of 10 steps: {first:.3g} at first, {last:.3g} at last"
    assert figure.get_suptitle() == title
    black = [x for x in figure.axes[0].lines if x.get_color() == training_figures.BLACK]
    np.testing.assert_allclose([x.get_ydata() for x in black], np.outer([first, last], np.ones(10)))


def test_a_lone_known_loss_is_a_point():
    rows = [{"outer_step": i, "outer_loss": 1.0 if i == 3 else None} for i in range(9)]
    thin = training_figures.outer_loss_figure(rows).axes[0].lines[0]
    assert thin.get_marker() == "o"
    assert np.isfinite(thin.get_ydata()).sum() == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (3, 7), (0, 7), (3, 0)])
@pytest.mark.parametrize("value", [*UNKNOWN[1:], -1.0, 0.0])
def test_held_out_curves_that_are_unknown_or_negative(tmp_path, value, shape):
    curves = {"learned": np.full(shape, value), "adam_tuned": np.full((3, 7), 0.5)}
    figure = training_figures.held_out_figure(curves)
    (axes,) = figure.axes
    lines = {line.get_color(): line.get_ydata() for line in axes.lines}
    drawn = np.prod(shape) > 0 and value in (-1.0, 0.0)
    assert (
        np.isfinite(lines[training_figures.BLUE]).all() == drawn
        if shape[1]
        else lines[training_figures.BLUE].size == 0
    )
    assert lines[training_figures.BLACK].tolist() == [0.5] * 7
    names = [each.get_text() for each in axes.texts]
    assert (f"learned: {value:.3g}" in names) == drawn
    assert ("learned –" in names) != drawn
    assert axes.get_yscale() == ("linear" if drawn else "log")
    assert training_figures.save(figure, tmp_path / "figure.png").stat().st_size > 1000


def test_a_mean_with_a_lost_task_is_not_drawn():
    losses = np.array([[1.0, 1.0, 1.0], [2.0, np.inf, np.nan], [3.0, 4.0, 1.0]])
    (line,) = training_figures.held_out_figure({"learned": losses}).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [2.0, np.nan, np.nan])


def test_names_of_curves_are_shown_as_they_are(tmp_path):
    names = [
        r"$\bad$",
        "_private",
        "\ud800",
        "a\nb",
        "W" * 500,
        "\u202e",
        "<b>&",
        "日本",
        "",
        "\U0001f468\u200d\U0001f469",
    ]
    curves = {name: np.full((2, 3), 1.0 + i) for i, name in enumerate(names)}
    figure = training_figures.held_out_figure(curves)
    assert training_figures.save(figure, tmp_path / "figure.png").stat().st_size > 1000
    shown = {each.get_text() for each in figure.axes[0].texts}
    ends = {f"{text.figure_label(name, limit=18)}: {1 + i}" for i, name in enumerate(names)}
    assert {text.figure_label(end, limit=28) for end in ends} <= shown


@pytest.mark.parametrize("curves", [{}, {"learned": np.zeros(3)}, {"learned": np.zeros((1, 2, 3))}])
def test_other_curves_are_refused(curves):
    with pytest.raises(ValueError, match=r"must be \[tasks, steps\]"):
        training_figures.held_out_figure(curves)


def test_a_metrics_file_that_was_cut_short_is_drawn(tmp_path):
    write_run(tmp_path, merged=False, curves=False, num_steps=5)
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"outer_step": 5, "outer_lo')
    assert [path.name for path in training_figures.training_figures(tmp_path)] == ["outer_loss.png"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive", None])
def test_damaged_curves_are_named(tmp_path, content):
    path = tmp_path / "heldout_curves.npz"
    if content is None:
        np.savez(path, learned=np.ones((2, 2)))
        content = path.read_bytes()[:-30]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"heldout_curves\.npz is damaged"):
        training_figures.training_figures(tmp_path)


def test_curves_that_are_a_pipe_or_would_fill_the_memory_are_refused(tmp_path):
    path = tmp_path / "heldout_curves.npz"
    np.savez_compressed(path, learned=np.zeros((3, 1 << 21)))
    with pytest.raises(ValueError, match=r"heldout_curves\.npz is .* would unpack to"):
        training_figures.read_curves(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"heldout_curves\.npz is no regular file"):
        training_figures.training_figures(tmp_path)


@pytest.mark.parametrize("value", ["text", [1], {"a": 1}])
def test_a_field_that_is_no_number_is_drawn_as_unknown(tmp_path, value):
    write_run(tmp_path, merged=True, curves=False, num_steps=5)
    path = tmp_path / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[2]["weight_reparameterization"] = value
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(training_figures.training_figures(tmp_path)) == 2


def test_many_names_stay_in_the_picture(tmp_path):
    curves = {f"optimizer {i}": np.full((2, 3), 1.0) for i in range(60)}
    figure = training_figures.held_out_figure(curves)
    places = [each.get_position()[1] for each in figure.axes[0].texts if each.get_position()[0] > 1]
    assert len(places) == 60
    assert min(places) > -0.02
    assert max(places) < 1
    training_figures.save(figure, tmp_path / "figure.png")


@pytest.mark.parametrize("reference", [*UNKNOWN[:3], 0.0, 1.0])
def test_variances_that_are_unknown_zero_or_of_an_estimator_of_ones_own(tmp_path, reference):
    row = {"variance": 2.0, "norm": 1.0, "cosine": 0.5}
    nothing = dict.fromkeys(row)
    result = {
        "rows": [
            {"estimator": "merged", "num_steps": 10, **row},
            {"estimator": "merged", "num_steps": 20, **nothing},
            {
                "estimator": r"my $\bad$ one",
                "num_steps": 10,
                "variance": 0.0,
                "norm": float("nan"),
                "cosine": -1.0,
            },
            {"estimator": "_unknown", "num_steps": 10, **nothing},
        ],
        "reference": {"norm": reference, "reliability": None},
    }
    figure = variance_figure(result)
    variance, norm, cosine = figure.axes
    assert [line.get_ydata().tolist() for line in variance.lines] == [[2.0], [], []]
    assert [line.get_ydata().tolist() for line in norm.lines[:3]] == [[1.0], [], []]
    assert len(norm.lines) == 3 + (reference == 1.0)
    assert [line.get_ydata().tolist() for line in cosine.lines[:3]] == [[0.5], [-1.0], []]
    FigureCanvasAgg(figure).draw()
    FigureCanvasAgg(variance_figure({"rows": [], "reference": {"norm": None}})).draw()
