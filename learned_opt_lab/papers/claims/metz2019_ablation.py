"""Claims of figures 4 and 8 of Metz et al. 2019, from an ablation (`ablation.json`)."""

from typing import Any

import numpy as np

from learned_opt_lab.papers.claims.claim import Claim
from learned_opt_lab.papers.claims.measured import Measured, mean_of, once, ratio_of
from learned_opt_lab.papers.claims.rules import Less, More, Near

Result = dict[str, Any]
_SOURCE = "explosion"


def _row(result: Result, variant: str) -> dict[str, Any]:
    rows = {row["variant"]: row for row in result["variants"]}
    return rows[variant]


def _losses(result: Result, variant: str) -> np.ndarray:
    return np.array(_row(result, variant)["outer_loss_of_seeds"], np.float64)


def _pairs(result: Result, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """A variant and the merge, of the seeds that both have."""
    both = _losses(result, variant), _losses(result, "merged")
    count = min(map(len, both))
    return both[0][:count], both[1][:count]


def _above_merged(result: Result, variant: str) -> Measured:
    other, merged = _pairs(result, variant)
    return mean_of(other - merged, "seeds, in pairs")


def _spread(result: Result, variant: str) -> Measured:
    other, merged = (_losses(result, name).std(ddof=1) for name in (variant, "merged"))
    return once(other / merged)


def _no_time(result: Result) -> Measured:
    other, merged = _pairs(result, "no_time")
    return ratio_of(other / merged, "seeds, in pairs")


def _variance_ratio(result: Result, index: int) -> Measured:
    return once(_row(result, "merged")["along"]["variance_ratio"][index])


def _higher(variant: str, says: str, printed: str = "above 0") -> Claim:
    return Claim(
        "Figure 8",
        f"outer loss at the end, {says} less merged with a curriculum",
        printed,
        _SOURCE,
        lambda result: _above_merged(result, variant),
        More(0),
    )


VARIANCES = (
    Claim(
        "Figure 4",
        "variance of the reparameterization gradient over that of ES, a deep network, at first",
        "1e-5",
        _SOURCE,
        lambda result: _variance_ratio(result, 0),
        Less(1, 1e-5),
    ),
    Claim(
        "Figure 4",
        "the same at the end",
        "1e20",
        _SOURCE,
        lambda result: _variance_ratio(result, -1),
        More(1, 1e20),
    ),
)
CLAIMS = (
    _higher("reparameterization", "reparameterization only"),
    _higher("evolution_strategies", "ES only"),
    Claim(
        "Figure 8",
        "spread of that loss over seeds, reparameterization only over merged",
        "above 1: merged is more stable",
        _SOURCE,
        lambda result: _spread(result, "reparameterization"),
        More(1),
    ),
    _higher("fixed_10", "truncations of 10 steps, a hundredth of the episode"),
    _higher("fixed_100", "truncations of 100 steps, a tenth of the episode"),
    _higher("no_momentum", "no momentum inputs", "above 0: fails to converge"),
    Claim(
        "Figure 8",
        "outer loss at the end without inputs of time over that with them",
        "nearly 1",
        _SOURCE,
        _no_time,
        Near(1, 0.1),
    ),
)
