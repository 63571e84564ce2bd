"""The per-parameter MLP itself: rows of inputs in, rows of outputs out.

The hot loop of the whole project.

The inputs of all parameters of a group stay apart as rows `[n]`; inputs common to all parameters
(time) are already part of the first bias. Two ways to compute it, chosen in `mlp_rows`:

- one hidden layer and few inputs: sums of scalar weights times rows, which XLA fuses with the step
  into a single loop, without any `[hidden, n]` array in memory. Its own derivative would be as many
  single loops again, so it has a rule whose tangent is matrix products;
- any other shape: matrix products.

Both go over blocks of parameters where a `[hidden, n]` array would not stay in the cache.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

FORWARD_BLOCK = 4096
"""Parameters to a block of matrix products: 32 hidden rows of it are 0.5 MB."""
TANGENT_BLOCK = 512
"""Smaller, since derivatives are taken of many particles side by side,
each with a hidden array of its own."""
_MAX_SUMMED_INPUTS = 13
"""Beyond it the loop no longer fits the registers,
and LLVM may take minutes and gigabytes to find out (22 inputs)."""
_PARTIAL_SUMS = 4
"""A single running sum over the hidden units would wait for each addition;
more than four run out of registers."""


def mlp_rows(
    weights: Sequence[Array], biases: Sequence[Array], rows: Sequence[Array]
) -> list[Array]:
    """Applies a ReLU MLP to every parameter.

    Args:
      weights: `[inputs, outputs]` of each layer.
      biases: `[outputs]` of each layer.
      rows: the inputs, `[*shape]` each; a scalar stands for as many equal ones.

    Returns:
      The outputs, `[*shape]` each.
    """
    if is_summed(len(weights), len(rows)):
        return list(one_hidden_layer(tuple(weights), tuple(biases), tuple(rows)))
    return matmul_rows([weight.T for weight in weights], biases, rows)


def matmul_rows(
    weights: Sequence[Array], biases: Sequence[Array], rows: Sequence[Array]
) -> list[Array]:
    """`mlp_rows` by products, from weights `[outputs, inputs]` and rows of any shape; vectors go
    over blocks.

    Products are fast where the common axis is the left one's last; but XLA takes a transpose inside
    the loop that calls this back into the product, so loops are to be given the weights this way
    round.
    """
    stacked = jnp.stack(jnp.broadcast_arrays(*rows))
    if stacked.ndim > 2:  # it may be spread over devices
        return list(matmul_mlp(weights, biases, stacked))
    return list(
        in_blocks(lambda inputs: matmul_mlp(weights, biases, inputs), stacked, FORWARD_BLOCK)
    )


def is_summed(num_layers: int, num_inputs: int) -> bool:
    """Whether `mlp_rows` computes an MLP of that many layers of weights as sums,
    without products of matrices.
    """
    return num_layers == 2 and num_inputs <= _MAX_SUMMED_INPUTS


def matmul_mlp(weights: Sequence[Array], biases: Sequence[Array], inputs: Array) -> Array:
    """The MLP as matrix products: `[inputs, *shape] -> [outputs, *shape]`,
    from weights `[outputs, inputs]`.
    """
    values = inputs
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = jax.nn.relu(values) if layer else values
        values = _product(weight, values) + jnp.expand_dims(bias, range(1, values.ndim))
    return values


def in_blocks(function: Callable[[Any], Array], columns: Any, block: int) -> Array:
    """`function(columns)` for a function of each column alone,
    over blocks of at most `block` columns.

    Blocks of equal size rather than a short last one: at most one column a block is padding.

    Args:
      function: `[..., k] -> [outputs, k]`.
      columns: a tree of `[..., n]`.
      block: columns at a time.

    Returns:
      `[outputs, n]`.
    """
    n = jax.tree.leaves(columns)[0].shape[-1]
    num_blocks = math.ceil(n / block)
    if num_blocks <= 1:
        return function(columns)
    size = math.ceil(n / num_blocks)

    def split(x: Array) -> Array:
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, num_blocks * size - n)])
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], num_blocks, size), -2, 0)

    out = jnp.moveaxis(lax.map(function, jax.tree.map(split, columns)), 0, 1)
    return out.reshape(out.shape[0], num_blocks * size)[:, :n]


def in_halves(
    function: Callable[[list[Array]], Sequence[Array]],
    rows: Sequence[Array],
    num_outputs: int,
    dtype: DTypeLike,
) -> list[Array]:
    """`function(rows)` for a function of each element alone, as a loop of two.

    XLA copies what is elementwise, an MLP of sums even, to each place that reads it, but not out of
    a loop. With an odd number of elements the second half reaches back over one that is done.

    Args:
      function: rows `[k]` -> outputs `[k]`.
      rows: `[n]` each.
      num_outputs: of the function.
      dtype: of the outputs.
    """
    n = rows[0].size
    half = math.ceil(n / 2)

    def write_half(index: Array, outputs: list[Array]) -> list[Array]:
        start = jnp.minimum(index * half, n - half)
        parts = function([lax.dynamic_slice_in_dim(row, start, half) for row in rows])
        return [
            lax.dynamic_update_slice_in_dim(out, part, start, axis=0)
            for out, part in zip(outputs, parts, strict=True)
        ]

    return lax.fori_loop(0, 2, write_half, [jnp.zeros_like(rows[0], dtype)] * num_outputs)


@jax.custom_jvp
@jax.jit  # its thousand operations are traced once, not once for each map and loop around them
def one_hidden_layer(
    weights: tuple[Array, Array], biases: tuple[Array, Array], rows: tuple[Array, ...]
) -> tuple[Array, ...]:
    """The MLP with one hidden layer as sums of scalars times rows; arguments as in `mlp_rows`."""
    first, second = _scalars(weights[0]), _scalars(weights[1])
    # What all elements have in common is a product of its own;
    # in the loop it would be computed for each of them.
    common = [i for i, row in enumerate(rows) if not row.ndim]
    first_biases = biases[0]
    if common:
        column = jnp.stack([rows[i] for i in common])[:, None]
        first_biases = first_biases + _product(weights[0][np.array(common)].T, column)[:, 0]
    first_bias, second_bias = _scalars(first_biases[None])[0], _scalars(biases[1][None])[0]
    sums: list[list[Array | None]] = [[None] * len(second_bias) for _ in range(_PARTIAL_SUMS)]
    inputs = [(row, weight) for row, weight in zip(rows, first, strict=True) if row.ndim]
    for unit, bias in enumerate(first_bias):
        # Two sums, of which neither waits for the other's additions.
        halves: list[Array | None] = [None, bias]
        for i, (row, weight) in enumerate(inputs):
            halves[i % 2] = _plus(halves[i % 2], row * weight[unit])
        before = _plus(*halves[::-1])
        # A single instruction; `maximum`'s is three, of which two look for what is not a number.
        hidden = jnp.where(before < 0.0, 0.0, before)
        partial = sums[unit % _PARTIAL_SUMS]
        for output, weight in enumerate(second[unit]):
            partial[output] = _plus(partial[output], hidden * weight)
    columns = [[p for p in column if p is not None] for column in zip(*sums, strict=True)]
    return tuple(
        _tree_sum(column) + bias for column, bias in zip(columns, second_bias, strict=True)
    )


@one_hidden_layer.defjvp
def _one_hidden_layer_jvp(
    primals: tuple, tangents: tuple
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    weights, biases, rows = primals
    d_weights, d_biases, d_rows = tangents
    rows, d_rows = jnp.broadcast_arrays(*rows), jnp.broadcast_arrays(*d_rows)
    shape = rows[0].shape
    rows, d_rows = ([row.reshape(-1) for row in each] for each in (rows, d_rows))
    # With a row of ones the first bias is a weight:
    # its gradient comes with theirs, from products of eight rows.
    first = jnp.concatenate([weights[0], biases[0][None]])
    d_first = jnp.concatenate([d_weights[0], d_biases[0][None]])
    # Transposed once, outside the blocks:
    # products are fast where the common axis is the left one's last.
    first_rows, d_first_rows = first.T, d_first.T

    # Recomputing the hidden units of a block in the backward pass is cheaper
    # than to fetch them from memory.
    @jax.checkpoint
    def tangent(inputs: tuple[Array, Array]) -> Array:
        x, dx = inputs
        before = _product(first_rows, x)
        d_before = _product(d_first_rows, x) + _product(first.T, dx)
        active = before > 0.0
        hidden, d_hidden = jnp.where(active, before, 0.0), jnp.where(active, d_before, 0.0)
        return _product(d_weights[1].T, hidden) + _product(weights[1].T, d_hidden)

    inputs = (
        jnp.stack([*rows, jnp.ones_like(rows[0])]),
        jnp.stack([*d_rows, jnp.zeros_like(rows[0])]),
    )
    d_out = in_blocks(tangent, inputs, TANGENT_BLOCK)
    # In halves, since a derivative reads the outputs several times.
    out = in_halves(
        lambda part: one_hidden_layer(weights, biases, tuple(part)), rows, len(d_out), rows[0].dtype
    )
    d_out = d_out + d_biases[1][:, None]
    return tuple(x.reshape(shape) for x in out), tuple(x.reshape(shape) for x in d_out)


def _product(weight: Array, columns: Array) -> Array:
    """`weight @ columns`; at full precision,
    since accelerators round float32 products by default.
    """
    return jnp.tensordot(weight, columns, 1, precision=lax.Precision.HIGHEST)


def _scalars(matrix: Array) -> list[list[Array]]:
    """The elements of `[a, b]` as scalars; slices, since indexing is slow to trace."""
    a, b = matrix.shape
    flat = matrix.reshape(-1)
    return [
        [lax.squeeze(lax.slice(flat, (i * b + j,), (i * b + j + 1,)), (0,)) for j in range(b)]
        for i in range(a)
    ]


def _plus(total: Array | None, term: Array | None) -> Array:
    """Their sum; None is none."""
    return total if term is None else term if total is None else total + term


def _tree_sum(terms: list[Array]) -> Array:
    while len(terms) > 1:
        terms = [sum(terms[i : i + 2][1:], start=terms[i]) for i in range(0, len(terms), 2)]
    return terms[0]
