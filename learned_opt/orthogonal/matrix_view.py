"""Which matrix a tensor is: what it maps from, by what it maps to.

A kernel `[..., inputs, outputs]` may have several axes of either. Which they are, its shape says
well enough:

- of two axes there is one way;
- of three, a kernel of attention `[features, heads, size]` or `[heads, size, features]`, or of a
  convolution `[window, inputs, outputs]`: that of the two ways which is nearest to square;
- of more, as convolutions have them, `[window, window, inputs, outputs]`: the last one against all
  others.

Axes of length 1 are none. Layers stacked along leading axes are matrices of their own.
"""

import math
from typing import NamedTuple

from jax import Array


class MatrixView(NamedTuple):
    """A tensor as `layers` matrices.

    Attributes:
      layers: of them, 1 for one matrix.
      rows: of each.
      columns: of each.
    """

    layers: int
    rows: int
    columns: int

    def of(self, x: Array) -> Array:
        """x of the tensor's shape as `[layers, rows, columns]`, `[rows, columns]` if it is one."""
        return x.reshape(self[1:] if self.layers == 1 else self)


def matrix_view(shape: tuple[int, ...], layers: int = 0) -> MatrixView:
    """The matrices that a tensor is.

    Args:
      shape: of the tensor.
      layers: leading axes that count layers.

    Example:
      >>> matrix_view((3, 3, 16, 32))
      MatrixView(layers=1, rows=144, columns=32)
      >>> matrix_view((64, 4, 16))
      MatrixView(layers=1, rows=64, columns=64)
    """
    own = [size for size in shape[layers:] if size != 1]
    places = range(1, len(own))
    if len(own) == 3:
        place = min(places, key=lambda i: (_squareness(own, i), -i))
    else:
        place = max(len(own) - 1, 0)
    return MatrixView(math.prod(shape[:layers]), math.prod(own[:place]), math.prod(own[place:]))


def _squareness(sizes: list[int], place: int) -> float:
    """How many times the longer side is the shorter one, cut there."""
    rows, columns = math.prod(sizes[:place]), math.prod(sizes[place:])
    return max(rows, columns) / max(min(rows, columns), 1)
