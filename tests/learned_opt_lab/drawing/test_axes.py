"""Axes leave out what is unknown and take what is left."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from learned_opt_lab.drawing import axes as helpers


def new_axes():
    return Figure(figsize=(4, 3), dpi=50).subplots()


def test_known_and_positive():
    np.testing.assert_array_equal(
        helpers.known([None, np.nan, np.inf, -1e300, -2, 0, 3]), [np.nan] * 4 + [-2, 0, 3]
    )
    np.testing.assert_array_equal(helpers.positive([None, -2, 0, 3]), [np.nan] * 3 + [3])
    assert np.isnan(helpers.known(None))


def test_in_quantiles_nan_is_larger_than_every_number():
    losses = np.array([[1.0, np.nan, np.nan], [2.0, 5.0, np.nan], [3.0, 6.0, np.inf]])
    np.testing.assert_array_equal(helpers.quantiles(losses, 0.5), [2, 6, np.nan])
    np.testing.assert_array_equal(
        helpers.quantiles(losses, [0, 1]), [[1, 5, np.nan], [3, np.nan, np.nan]]
    )
    assert helpers.quantiles(np.zeros((0, 4)), [0, 1]).shape == (2, 4)


@pytest.mark.parametrize(
    ("series", "scale"),
    [
        ([1.0, 10.0], "log"),
        ([np.nan, 10.0], "log"),
        ([1.0, -1.0], "linear"),
        ([1.0, 0.0], "linear"),
        ([np.nan, None], "linear"),
        ([], "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_all_that_is_known_is_positive(series, scale):
    axes = new_axes()
    helpers.log_scale(axes, "y", series)
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", scale)
    helpers.log_scale(axes, "x", series)
    assert axes.get_xscale() == scale


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 2, (1, 2)),
        (np.nan, 2, (0, 2)),
        (None, np.inf, (0, 1)),
        (2, 1, (0, 1)),
        (1, 1, (0, 1)),
        (-np.inf, None, (0, 1)),
    ],
)
def test_limits_that_are_unknown_or_leave_nothing_are_not_set(low, high, expected):
    axes = new_axes()
    helpers.set_limits(axes, "y", low, high)
    assert axes.get_ylim() == expected
    helpers.set_limits(axes, "x", low, high)
    assert axes.get_xlim() == expected


def test_a_legend_of_nothing_and_of_much():
    axes = new_axes()
    assert helpers.legend(axes) is None
    for i in range(40):
        axes.plot([0, 1], [i, i], label="w" * 40 + str(i))
    before = axes.get_tightbbox(FigureCanvasAgg(axes.figure).get_renderer()).bounds
    assert len(helpers.legend(axes).get_texts()) == 40
    assert axes.get_tightbbox(axes.figure.canvas.get_renderer()).bounds == pytest.approx(before)


def test_every_legend_says_where_it_stands():
    """Left to find the best place, Matplotlib warns on a slow machine; `legend` asks for it, so
    nobody else makes one.
    """
    root = Path(__file__).parents[3]
    files = [
        path for name in ("learned_opt_lab", "benchmarks") for path in (root / name).rglob("*.py")
    ]
    makers = {path.name for path in files if ".legend(" in path.read_text(encoding="utf-8")}
    assert makers == {Path(helpers.__file__).name}
