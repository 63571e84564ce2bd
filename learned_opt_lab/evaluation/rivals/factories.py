"""Optimizers of the table that are more than one call of Optax.

Hyperparameters may be traced; `learning_rate` is an Optax schedule.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from learned_opt import matrices

_PROJECTIONS = {"query", "key", "value"}
"""Modules of Flax's attentions whose kernels are `[features, heads, features of a head]`."""


def momentum(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
    """SGD with momentum, which Optax calls by the same name as SGD."""
    return optax.sgd(learning_rate, momentum=momentum)


def muon(
    learning_rate: Any, adam_share: Any, momentum: Any, weight_decay: Any
) -> optax.GradientTransformation:
    """Muon on hidden matrices, Adam on embeddings, heads and vectors, as its author says.

    `contrib.muon` alone would take every tensor of two axes and no other, and would have
    Nesterov's momentum in Adam too. Adam's averages and both eps are those of the author's code.
    Adam's rate is a share of Muon's, so that both go by one schedule.
    """
    adam_rate = lambda count: adam_share * learning_rate(count)
    of_matrices = contrib.muon(
        learning_rate,
        beta=momentum,
        eps=1e-7,
        weight_decay=weight_decay,
        muon_weight_dimension_numbers=_dimension_numbers,
    )
    of_others = optax.adamw(adam_rate, b1=0.9, b2=0.95, eps=1e-10, weight_decay=weight_decay)
    return optax.partition({True: of_matrices, False: of_others}, matrices)


def _dimension_numbers(params: optax.Params) -> Any:
    """Of every tensor, which axes are the rows and which the columns of the matrix it is.

    Rows are all that lead to one output: a filter of a convolution is one column, as in the
    author's code. Queries, keys and values of all heads are one matrix each.
    """

    def of(path: tuple, x: Any) -> contrib.MuonDimensionNumbers:
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")[:-1]
        axes = tuple(range(x.ndim))
        if x.ndim == 3 and not _PROJECTIONS.isdisjoint(names):
            return contrib.MuonDimensionNumbers(axes[0], axes[1:])
        return contrib.MuonDimensionNumbers(axes[:-1], axes[-1])

    return jax.tree_util.tree_map_with_path(of, params)


def schedule_free(
    learning_rate: Any, b1: Any, b2: Any, weight_decay: Any
) -> optax.GradientTransformation:
    """`optax.contrib.schedule_free_adamw`, with a warm-up that may be traced."""
    base = optax.chain(
        optax.scale_by_rms(decay=b2, eps=1e-8, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    return contrib.schedule_free(base, learning_rate, b1=b1)


def prodigy(learning_rate: Any, growth: Any, weight_decay: Any) -> optax.GradientTransformation:
    """Prodigy by the name `growth` for what its estimates are multiplied by."""
    return contrib.prodigy(learning_rate, estim_lr_coef=growth, weight_decay=weight_decay)


def ademamix(
    learning_rate: Any, alpha: Any, b3: Any, weight_decay: Any, num_steps: int
) -> optax.GradientTransformation:
    """AdEMAMix with both warm-ups of its paper, over the whole run: alpha grows from 0 in a
    straight line, and so does the half-life of the slow average from that of the fast one.
    """
    b1 = 0.9
    done = lambda count: jnp.minimum(count / num_steps, 1.0)

    def slow(count):
        share = done(count)
        return jnp.exp(1.0 / ((1.0 - share) / jnp.log(b1) + share / jnp.log(b3)))

    rising = lambda count: alpha * done(count)
    return contrib.ademamix(learning_rate, b1=b1, b3=slow, alpha=rising, weight_decay=weight_decay)
