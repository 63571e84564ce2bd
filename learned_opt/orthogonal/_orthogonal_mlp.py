"""A per-parameter MLP whose steps are orthogonal for matrices.

    d = MLP(inputs),    W <- W - rate rms(d) polar(d)    hidden matrices,
                        w <- w - rate d                  embeddings, heads and vectors

The MLP is that of `learned_opt.mlp`, one for matrices and one for all else, on inputs that have no
scale. polar(d) is what Muon makes of a momentum (Jordan 2024). A rate, a number for each kind of
tensor, is learned, and so is how d and the rates change with the share of the training that is
done, where `num_steps` tells how long it is.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import DTypeLike

from learned_opt import ranges
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.kinds import KINDS, tensor_kinds
from learned_opt.orthogonal.orthogonal_step import orthogonal_step
from learned_opt.per_parameter._mlp import MLPSettings, mlp_settings
from learned_opt.per_parameter.layouts import mirrored, packed
from learned_opt.per_parameter.layouts.states import MLPState
from learned_opt.per_parameter.theta import (
    as_setting,
    check_sequence,
    init_theta,
    with_linear_outputs,
)
from learned_opt.trees.gradient_tree import map_trained, widened
from learned_opt.trees.packing import as_update
from learned_opt.trees.stacked import Stacked, num_stacked
from learned_opt.trees.state_check import check_type

MATRIX, OTHER = "matrix", "other"
"""Names of the two rules."""
LEARNED = "learned"
FIXED = {"adam": "adam_momentum", "momentum": "unit_momentum"}
"""Directions in the place of a learned one -> the input that they are."""
FEATURES = ("parameter", "adam_gradient", "adam_momentum", "unit_gradient", "unit_momentum")
"""Inputs that `orthogonal_mlp` can give."""

NUM_PROGRESS = 3
LOG_RATE_UNIT = 10.0
"""Outer-training perturbs all of theta by the same hundredths. In this unit they change a rate by
tenths, about as much as those of the other weights change a direction.
"""


class OrthogonalMLPSettings(NamedTuple):
    """Resolved arguments of `orthogonal_mlp`."""

    hidden_sizes: tuple[int, ...] = (16,)
    momentum_decays: tuple[float, ...] = (0.9, 0.99)
    second_moment_decays: tuple[float, ...] = (0.99,)
    features: tuple[str, ...] = ("parameter", "adam_gradient", "adam_momentum", "unit_momentum")
    exp_multiplier: float = 1e-3
    output_init_scale: float = 0.01
    rates: tuple[float, ...] = (0.1, 0.01, 0.01, 0.01)
    direction: str = LEARNED
    orthogonal: bool = True


def orthogonal_mlp(
    hidden_sizes: Sequence[int] | None = None,
    momentum_decays: Sequence[float] | None = None,
    second_moment_decays: Sequence[float] | None = None,
    *,
    features: Sequence[str] | None = None,
    exp_multiplier: float | None = None,
    rates: Sequence[float] | None = None,
    direction: str | None = None,
    orthogonal: bool | None = None,
) -> LearnedOptimizer:
    """The per-parameter MLP whose steps are orthogonal for matrices.

    An argument that is left out comes from `OrthogonalMLPSettings`.

    Args:
      hidden_sizes: widths of the ReLU layers, of at least two units each.
      momentum_decays: in [0, 1), of the running averages of the gradient, at least one.
      second_moment_decays: in [0, 1), of the squared gradient, at least one.
      features: names in `FEATURES`, `"adam_momentum"` among them, in the order of the first layer's
        rows.
      exp_multiplier: of the magnitude that makes a direction's elements longer or shorter, inside
        the exponential.
      rates: positive, of a fresh theta: for matrices, embeddings, heads and vectors.
      direction: `"learned"`; or `"adam"` or `"momentum"`, that of the first momentum over Adam's
        scale or over its own root mean square. Only the rates are learned then, and widths,
        features and the exponential's factor count for nothing.
      orthogonal: whether matrices step along the polar factor, or along the direction itself.

    Returns:
      The optimizer. Its theta has `"matrix"` and `"other"`, weights as those of `mlp`;
      `"log_rates"` `[4]`, natural logarithms in units of `LOG_RATE_UNIT`; and `"progress"`, what
      is known of the share of the training that is done adds (1, the share and its square; nothing
      without `num_steps`): `"matrix"` and `"other"` `[3, hidden]` to the first biases,
      `"log_rates"` `[3, 4]`. A fresh one's direction is Adam's, by the first
      momentum. Its transformation takes `num_steps`: the rate then falls to 0 by half a cosine.

    Raises:
      ValueError: for an argument out of its range or an unknown feature.

    Example:
      >>> optimizer = orthogonal_mlp()
      >>> opt = optimizer.optimizer(optimizer.init(jax.random.key(0)), num_steps=1000)
      >>> params = {"w": jnp.ones((3, 4))}
      >>> updates, opt_state = opt.update({"w": jnp.ones((3, 4))}, opt.init(params), params)
    """
    given = {name: value for name, value in locals().items() if value is not None}
    own = OrthogonalMLPSettings(**{name: as_setting(value) for name, value in given.items()})
    if own.direction in FIXED:
        only = {"hidden_sizes": (2,), "features": (FIXED[own.direction],), "output_init_scale": 0.0}
        own = own._replace(**only)
    rule = _rule_settings(own)
    of_layout = partial(_transformation, own, rule)
    return LearnedOptimizer(
        init=partial(_init, own, rule),
        optimizer=partial(of_layout, partial(mirrored, "orthogonal_mlp", rule)),
        packed=partial(of_layout, partial(packed, "orthogonal_mlp", rule)),
    )


def _rule_settings(own: OrthogonalMLPSettings) -> MLPSettings:
    """The settings of both rules; raises as `orthogonal_mlp`."""
    of_many = ("hidden_sizes", "momentum_decays", "second_moment_decays")
    for name in (*of_many, "features", "rates"):
        check_sequence(name, getattr(own, name))
    for name in own.features:
        if name not in FEATURES:
            raise ValueError(f"features: got {name!r}, allowed are {', '.join(FEATURES)}")
    if own.direction not in (LEARNED, *FIXED):
        allowed = ", ".join((LEARNED, *FIXED))
        raise ValueError(f"direction: got {own.direction!r}, allowed are {allowed}")
    if _passed(own) not in own.features:
        raise ValueError(f"features: got {own.features}, of which 'adam_momentum' must be one")
    for name in of_many:
        if not getattr(own, name):
            raise ValueError(f"{name}: got none, at least one is needed")
    if len(own.rates) != len(KINDS):
        raise ValueError(f"rates: got {own.rates}, needed are {len(KINDS)} positive numbers")
    for rate in own.rates:
        ranges.require_positive("rates", rate)
    not_of_rules = ("rates", "direction", "orthogonal")
    fields = {name: getattr(own, name) for name in own._fields if name not in not_of_rules}
    settings = mlp_settings(**fields, timescales=(), step_multiplier=1.0)
    if min(own.hidden_sizes) < 2:
        raise ValueError(f"hidden_sizes: got {min(own.hidden_sizes)}, allowed are 2 and more")
    return settings


def _init(own: OrthogonalMLPSettings, rule: MLPSettings, key: Array) -> Theta:
    """Fresh weights."""
    theta = {
        "log_rates": jnp.log(jnp.asarray(own.rates, jnp.float32)) / LOG_RATE_UNIT,
        "progress": {"log_rates": jnp.zeros((NUM_PROGRESS, len(KINDS)), jnp.float32)},
    }
    if own.direction != LEARNED:
        return theta
    shape = (NUM_PROGRESS, own.hidden_sizes[0])
    of_progress = {name: jnp.zeros(shape, jnp.float32) for name in (MATRIX, OTHER)}
    return theta | _fresh_rules(own, rule, key) | {"progress": theta["progress"] | of_progress}


def _fresh_rules(own: OrthogonalMLPSettings, rule: MLPSettings, key: Array) -> Theta:
    """Weights of both rules that pass one input on."""
    rules, passed = {}, np.zeros(rule.num_features, np.float32)
    passed[_first_row(rule, _passed(own))] = 1.0
    for name in (MATRIX, OTHER):
        key, key_rule = jax.random.split(key)
        fresh = init_theta(rule, rule.num_features, key_rule)
        rules[name] = with_linear_outputs(fresh, passed, np.zeros_like(passed))
    return rules


def _passed(own: OrthogonalMLPSettings) -> str:
    """The input that a fresh direction is."""
    return FIXED.get(own.direction, FIXED["adam"])


def _first_row(rule: MLPSettings, feature: str) -> int:
    """The first of a feature's rows."""
    before = rule.features[: rule.features.index(feature)]
    return rule._replace(features=before).num_features if before else 0


def _transformation(
    own: OrthogonalMLPSettings,
    rule: MLPSettings,
    layout: Any,
    theta: Theta,
    *,
    num_steps: int | Array | None = None,
    stacked: Stacked | None = None,
    state_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The transformation of an optimizer.

    Args:
      own: the optimizer's settings.
      rule: those of both rules.
      layout: `mirrored` or `packed`.
      theta: its weights.
      num_steps: updates of the whole training, where that is known; may be traced, and infinite.
      stacked: which parameters hold layers; as `state_dtype` of the mirrored layout alone.
      state_dtype: of the averages.
    """
    if num_steps is not None and not isinstance(num_steps, jax.core.Tracer):
        ranges.require("num_steps", num_steps, "be at least 1", 1, math.inf)
    choices = {"stacked": stacked, "state_dtype": state_dtype}
    chosen = {name: value for name, value in choices.items() if value is not None}
    layout = partial(layout, **chosen)
    if own.direction != LEARNED:
        with jax.ensure_compile_time_eval():
            theta = theta | _fresh_rules(own, rule, jax.random.key(0))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_type("orthogonal_mlp", state, MLPState)
        progress, kinds = _progress(state.count, num_steps), tensor_kinds(params)
        inner = layout(_rules_at(theta, progress), rules=lambda _: _rules_of(kinds))
        directions, state = inner.update(updates, state, params, **extra)
        logs = theta["log_rates"] + progress @ theta["progress"]["log_rates"]
        rates = jnp.exp(LOG_RATE_UNIT * logs)
        rates = dict(zip(KINDS, _annealed(rates, progress, num_steps), strict=True))

        def step(direction: Array, kind: str, layers: int) -> Array:
            wide = widened(direction)
            wide = orthogonal_step(wide, layers) if kind == MATRIX and own.orthogonal else wide
            return as_update(rates[kind].astype(wide.dtype) * wide, direction.dtype)

        return map_trained(step, directions, kinds, num_stacked(stacked, params)), state

    init = layout(theta, rules=lambda params: _rules_of(tensor_kinds(params))).init
    return optax.GradientTransformationExtraArgs(init, update)


def _rules_of(kinds: Any) -> Any:
    """Which of the two rules is that of each kind, in their tree."""
    return jax.tree.map(lambda kind: MATRIX if kind == MATRIX else OTHER, kinds)


def _progress(count: Array, num_steps: int | Array | None) -> Array:
    """What is known of the share s of the training that is done: 1, s and s^2, `[3]`; zeros where
    nothing is. The 1 lets rates be others where they will fall.
    """
    if num_steps is None:
        return jnp.zeros(NUM_PROGRESS, jnp.float32)
    total = jnp.asarray(num_steps, jnp.float32)
    share = jnp.minimum(count.astype(jnp.float32) / total, 1.0)
    known = jnp.isfinite(total).astype(share.dtype)
    return jnp.stack([known, share, share * share])


def _rules_at(theta: Theta, progress: Array) -> Mapping[str, Any]:
    """The weights of both rules; the progress is the same for every parameter, and part of the
    first bias.
    """
    rules = {}
    for name in (MATRIX, OTHER):
        first = theta[name]["layer_0"]
        bias = first["bias"]
        if name in theta["progress"]:
            bias = bias + progress @ theta["progress"][name]
        rules[name] = {**theta[name], "layer_0": {**first, "bias": bias}}
    return rules


def _annealed(rates: Array, progress: Array, num_steps: int | Array | None) -> Array:
    """Rates on half a cosine, where the length of the training is known."""
    return rates if num_steps is None else rates * (0.5 + 0.5 * jnp.cos(jnp.pi * progress[1]))
