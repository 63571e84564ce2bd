"""Tables: scikit-learn's bundled sets, or a user's own arrays, by a multi-layer perceptron."""

import importlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from tasks.base import SPLITS, Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images.class_subsets import class_subset_family, fixed_family
from tasks.images.image_data import FRACTIONS, from_arrays
from tasks.images.networks import MLP

TABLES = {
    "breast_cancer": "classification",
    "diabetes": "regression",
    "iris": "classification",
    "wine": "classification",
}
"""Set that scikit-learn bundles -> what is predicted."""


class TableData(NamedTuple):
    """Standardized rows, sorted by split.

    Attributes:
      inputs: `[n, features]`; over `train` a feature has mean 0 and deviation 1.
      targets: `[n]`, the same.
      variances: `[4]`, of the targets of each split: what 1 - R^2 is measured in.
    """

    inputs: Float[Array, "n features"]
    targets: Float[Array, " n"]
    variances: Float[Array, "4"]


def tabular_family(
    table: str = "breast_cancer",
    width: int = 128,
    depth: int = 2,
    activation: str = "relu",
    batch_size: int = 32,
) -> TaskFamily:
    """One task: a set that scikit-learn bundles, by an MLP of `depth` hidden layers.

    | table | rows | features | predicts | loss | metrics |
    |---|---|---|---|---|---|
    | `"breast_cancer"` | 569 | 30 | 2 classes | cross-entropy, near ln 2 at first | `accuracy` |
    | `"wine"` | 178 | 13 | 3 classes | near ln 3 | `accuracy` |
    | `"iris"` | 150 | 4 | 3 classes | near ln 3 | `accuracy` |
    | `"diabetes"` | 442 | 10 | a number | squared error of unit targets, 1 to 3 | `r_squared` |

    Batches of a classification draw classes uniformly, so the accuracy is a balanced one.
    (features + 1) width + (depth - 1) (width + 1) width + (width + 1) outputs parameters.

    Args:
      table: one of the above.
      width: of the hidden layers.
      depth: number of hidden layers.
      activation: a key of `tasks.images.networks.ACTIVATIONS`.
      batch_size: rows in a batch.

    Raises:
      ModuleNotFoundError: scikit-learn is not installed.
      ValueError: for an unknown table or activation, a size below 1, or a batch that is larger than
        the smallest split.

    Example:
      >>> family = tabular_family("wine", width=32, depth=1, batch_size=16)
    """
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}; tables are {', '.join(TABLES)}")
    if depth < 1:
        raise ValueError(f"depth must be 1 or more; got {depth}")
    inputs, targets = _load(table)
    hidden_sizes = (width,) * depth
    if TABLES[table] == "regression":
        return regression_family(inputs, targets, hidden_sizes, activation, batch_size)
    data = from_arrays(inputs.astype(np.float32), targets.astype(np.int32))
    module = MLP(hidden_sizes, data.num_classes, activation)
    return class_subset_family(data, module, data.num_classes, batch_size=batch_size)


def regression_family(
    inputs: np.ndarray,
    targets: np.ndarray,
    hidden_sizes: Sequence[int] = (128, 128),
    activation: str = "relu",
    batch_size: int = 32,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> TaskFamily:
    """One task: mean squared error of an MLP's prediction of a number, in units of the variance
    that the numbers have over `train`.

    The metric `r_squared` is 1 - MSE / variance, with the variance of the whole split and not of
    the batch, so that its mean over batches is that of the split.

    Args:
      inputs: `[n, features]`.
      targets: `[n]`.
      hidden_sizes: widths of the hidden layers.
      activation: a key of `tasks.images.networks.ACTIVATIONS`.
      batch_size: rows in a batch, drawn with replacement.
      fractions: share of each of `SPLITS`.
      seed: of the division into splits.

    Raises:
      ValueError: for arrays that do not fit together or are not finite, targets of a split that
        are all equal, fractions that are no partition of 1, or a size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}")
    data, ends = _table_data(np.asarray(inputs), np.asarray(targets), fractions, seed)
    bounds = tuple(zip((0, *ends[:-1]), ends, strict=True))
    module = MLP(tuple(hidden_sizes), 1, activation)
    num_features = data.inputs.shape[1]

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, num_features), jnp.float32))["params"]

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        predicted = module.apply({"params": params}, batch["inputs"])[:, 0]
        error = jnp.mean((predicted - batch["targets"]) ** 2)
        return error, {"r_squared": jnp.ones_like(error) - error / batch["variance"]}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        index = SPLITS.index(split)
        rows = jax.random.randint(key, (batch_size,), *bounds[index], jnp.int32)
        drawn = {"inputs": data.inputs[rows], "targets": data.targets[rows]}
        return {**drawn, "variance": data.variances[index]}

    return fixed_family(Task(init, loss, sample_batch), data)


def _load(table: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        # Half a second of imports that only these sets need.
        sets = importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error.name} is not installed: pip install "learned-opt[train]"', name=error.name
        ) from error
    bunch = getattr(sets, f"load_{table}")()
    return bunch.data, bunch.target


def _table_data(
    inputs: np.ndarray, targets: np.ndarray, fractions: Sequence[float], seed: int
) -> tuple[TableData, list[int]]:
    """The table in the order of the splits, and where each ends."""
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1]:
        raise ValueError(
            f"inputs must be [n, features] and targets [n]; got {list(inputs.shape)} and "
            f"{list(targets.shape)}"
        )
    if len(fractions) != len(SPLITS) or not (min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-6):
        raise ValueError(f"fractions must be four positive numbers that sum to 1; got {fractions}")
    inputs, targets = inputs.astype(np.float64), targets.astype(np.float64)
    if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
        raise ValueError("inputs and targets must be finite")
    order = np.random.default_rng(seed).permutation(len(targets))
    ends = np.round(np.cumsum(fractions) * len(order)).astype(int).tolist()
    parts = np.split(order, ends[:-1])
    if min(map(len, parts)) < 2 or min(targets[part].std() for part in parts) == 0:
        raise ValueError("each split needs two different targets or more: give more rows")
    inputs = (inputs - inputs[parts[0]].mean(axis=0)) / _deviation(inputs[parts[0]])
    targets = (targets - targets[parts[0]].mean()) / targets[parts[0]].std()
    variances = [targets[part].var() for part in parts]
    arrays = (inputs[order], targets[order], np.array(variances))
    with jax.ensure_compile_time_eval():
        return TableData(*(jnp.asarray(array.astype(np.float32)) for array in arrays)), ends


def _deviation(inputs: np.ndarray) -> np.ndarray:
    """Of each feature; 1 where it does not vary."""
    deviation = inputs.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)
