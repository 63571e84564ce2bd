"""Which rule updates which parameters, where an optimizer has several."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array
from jax.typing import DTypeLike

from learned_opt.base import Theta
from learned_opt.per_parameter.layouts.states import Settings
from learned_opt.per_parameter.rule import UpdateRule, update_rule
from learned_opt.trees.packing import Group, computing_dtype

RuleOfEach = Callable[[Any], Any]
"""From parameters to the name of each one's rule, in their tree."""


def one_rule(params: Any) -> Any:
    """The rule of all parameters, which has no name."""
    return jax.tree.map(lambda _: "", params)


def update_rules(
    settings: Settings, theta: Theta, count: Array, groups: Sequence[Group]
) -> dict[tuple[DTypeLike, str], UpdateRule]:
    """The rules of one step, by the type that they compute in and their name.

    Args:
      settings: of the optimizer.
      theta: its weights; where the groups name rules, name -> weights.
      count: of updates made before.
      groups: of the leaves that are updated.
    """
    needed = {(computing_dtype(group, theta), group.rule) for group in groups}
    return {
        (dtype, name): update_rule(settings, theta[name] if name else theta, count, dtype)
        for dtype, name in sorted(needed, key=str)
    }
