"""Axes that take whatever was measured: nothing, one point, unknown, infinite, negative or zero.

What is unknown is drawn as nothing: no point, no line, and no part in the limits.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from numpy.typing import ArrayLike, NDArray

LARGEST = 1e100
"""What is larger has no place in a picture: its margins and powers would overflow."""


def known(values: Any) -> NDArray[np.float64]:
    """Numbers that can be drawn: nan for None, nan, infinities and what is beyond `LARGEST`."""
    values = np.asarray(values, np.float64)
    return np.where(np.abs(values) <= LARGEST, values, np.nan)


def positive(values: Any) -> NDArray[np.float64]:
    """What a logarithmic axis can show; nan for the rest."""
    values = known(values)
    return np.where(values > 0, values, np.nan)


def quantiles(values: ArrayLike, levels: ArrayLike) -> NDArray[np.float64]:
    """Quantiles over the first axis where nan counts as larger than every number;
    what is then not finite is nan.
    """
    values = np.sort(known(values), axis=0)  # nan goes last
    if not len(values):
        return np.full((*np.shape(levels), *values.shape[1:]), np.nan)
    place = np.asarray(levels) * (len(values) - 1)
    below = np.floor(place).astype(int)
    share = (place - below).reshape(*np.shape(levels), *[1] * (values.ndim - 1))
    # Where the place is whole, the value there is all that counts.
    above = np.ceil(place).astype(int)
    return (1 - share) * values[below] + share * values[above]


def log_scale(axes: Axes, which: Literal["x", "y"], *series: Any) -> None:
    """A logarithmic axis, unless something known of the series is not positive
    or nothing is known.
    """
    values = np.concatenate([np.zeros(0), *(known(each).ravel() for each in series)])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")


def set_limits(
    axes: Axes, which: Literal["x", "y"], low: float | None = None, high: float | None = None
) -> None:
    """Sets the limits that are known, where they leave something between them."""
    get, put = (axes.get_xlim, axes.set_xlim) if which == "x" else (axes.get_ylim, axes.set_ylim)
    scale = axes.get_xscale() if which == "x" else axes.get_yscale()
    wanted = known([low, high])
    first, last = np.where(np.isnan(wanted), get(), wanted)
    if first < last and (scale != "log" or first > 0):
        put(first, last)


def legend(axes: Axes, of: Axes | None = None, **options: Any) -> Legend | None:
    """A legend of what has a label, smaller where that is much; None where nothing has one.

    It is of what `of` shows, if that is another picture than the one it stands in.
    """
    handles, labels = (of or axes).get_legend_handles_labels()
    if not handles:
        return None
    columns = 1 + (len(labels) - 1) // 14
    # Asked for, "best" gives no warning on a machine that is slow to find it.
    options = {"frameon": False, "fontsize": 8, "ncols": columns, "loc": "best"} | options
    made = axes.legend(handles, labels, **options)
    # Long labels and many of them may cover the picture, but must not squeeze it to nothing.
    made.set_in_layout(False)
    return made


def legend_outside(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], **options: Any
) -> Legend:
    """A legend of several panels, below them; the layout makes room for it."""
    options = {"loc": "outside lower center", "frameon": False} | options
    return figure.legend(handles, labels, **options)
