"""Claims of Metz et al. 2019 (arXiv 1810.10180)."""

import math
from typing import Any

import numpy as np

from learned_opt_lab.papers.claims.claim import Claim, Paper
from learned_opt_lab.papers.claims.measured import (
    Measured,
    exact,
    given,
    mean_of,
    once,
    ratio_of,
    share_of,
)
from learned_opt_lab.papers.claims.metz2019_ablation import CLAIMS as ABLATION
from learned_opt_lab.papers.claims.metz2019_ablation import VARIANCES
from learned_opt_lab.papers.claims.rules import Less, More, Near

Result = dict[str, Any]


def _steepest(result: Result) -> Measured:
    slopes = result["double_well"]["max_abs_gradient"]
    lengths = sorted(slopes, key=int)
    return exact(slopes[lengths[-1]] / slopes[lengths[0]])


def _parted(result: Result) -> Measured:
    spreads = result["adam"]["relative_spread_of_networks"]
    first, last = (np.array(spreads[n]) for n in sorted(spreads, key=int))
    return ratio_of(last / first, "networks")


def _rougher(result: Result) -> Measured:
    roughness = result["learned_optimizer"]["roughness"]
    counts = sorted(roughness, key=int)
    return once(roughness[counts[-1]] / roughness[counts[0]])


def _adam(result: Result, name: str) -> Measured:
    values = result["adam"][name]
    return once(values[0] / values[-1])


def _quadratic_rates(result: Result) -> Measured:
    rates = result["noisy_quadratic"]["best_rates"]
    return exact(rates[0] / rates[-1])


def _late_gradient(result: Result) -> Measured:
    found = result["adam"]["gradient_over_inner_training"]
    windows = found[min(found, key=int)]
    return once(np.mean(windows[len(windows) // 2 :]) / windows[0])


def _variance(result: Result, when: str) -> Measured:
    found = result["learned_optimizer"]
    return once(found[f"var_rp_{when}"] / found[f"var_es_{when}"])


def _double_well(result: Result) -> Measured:
    ratios = result["var_ratio_rp_es"]
    return once(ratios[-1] / ratios[0])


def _against_adam(result: Result, objective: str) -> Measured:
    row = result["objectives"][objective]
    return ratio_of(np.array(row["outer_loss"]) / row["adam"], "seeds")


def _tasks(result: Result, field: str, baseline: str) -> Measured:
    found = result[field][baseline]
    return given(found, f"{len(found['values'])} tasks, one theta")


def _majority(result: Result, field: str) -> Measured:
    values = np.array(result[field]["adam8"]["values"], np.float64)
    return share_of((values > 0).sum(), len(values), "tasks, one theta")


def _overfits(result: Result) -> Measured:
    found = result["validation_against_training_objective"]["final"]["difference"]
    return given(found, "seeds and tasks, resampled")


def _network(result: Result, other: str) -> Measured:
    row = result["shifts"]["cnn_6"]
    theirs, ours = (np.array(row[o]["final_test_loss_of_runs"]) for o in (other, "validation"))
    return mean_of(theirs - ours, "networks, one theta")


def _reduced(result: Result) -> Measured:
    losses = np.array(result["shifts"]["cnn_6"]["validation"]["final_test_loss_of_runs"])
    return ratio_of(losses / math.log(10), "networks, one theta")


def _held_out(where: str, says: str, field: str, baseline: str) -> Claim:
    return Claim(
        where,
        says,
        "above 0",
        "held_out_curves",
        lambda result: _tasks(result, field, baseline),
        More(0),
    )


def _outer_training(objective: str) -> Claim:
    return Claim(
        "Figure 5",
        f"outer loss on L_{'train' if objective == 'training' else 'valid'} after outer-training, "
        "over that of Adam with its rate tuned",
        "below 1",
        "outer_training_curves",
        lambda result: _against_adam(result, objective),
        Less(1),
    )


_FIRST = (
    Claim(
        "Figure 2b",
        "where the far minimum of the double well lies",
        "3.5",
        "outer_landscape",
        lambda result: exact(result["double_well"]["minima"][1]),
        Near(3.5, 0.03),
    ),
    Claim(
        "Figure 2c",
        "steepest slope of the outer loss in momentum, longest unroll over shortest",
        "above 1: nearly discontinuous",
        "outer_landscape",
        _steepest,
        More(1),
    ),
    Claim(
        "Figure 2d",
        "spread of paths under nearby rates of Adam over their length, last step over first",
        "above 1",
        "outer_landscape",
        _parted,
        More(1),
    ),
    Claim(
        "Figures 2e and 2f",
        "roughness of a slice through theta of a learned optimizer, 20 unrolls over 5",
        "above 1",
        "outer_landscape",
        _rougher,
        More(1),
    ),
    Claim(
        "Figure 3a",
        "outer loss at the end, shortest truncation over longest",
        "above 1",
        "truncation_bias",
        lambda result: _adam(result, "final_losses"),
        More(1),
    ),
    Claim(
        "Figure 3b",
        "Adam's rate at the end, shortest truncation over longest",
        "below 1",
        "truncation_bias",
        lambda result: _adam(result, "final_rates"),
        Less(1),
    ),
    Claim(
        "Figure 3b, by exact moments",
        "rate at which the truncated gradient vanishes on the noisy quadratic, 1 step over 250",
        "below 1",
        "truncation_bias",
        _quadratic_rates,
        Less(1),
    ),
    Claim(
        "Figure 3c",
        "outer gradient late in the inner training over that of its first steps",
        "slightly below 0",
        "truncation_bias",
        _late_gradient,
        Less(0),
    ),
    Claim(
        "Figure 4",
        "variance of the reparameterization gradient over that of ES, fresh theta",
        "1e-5",
        "gradient_variance",
        lambda result: _variance(result, "first"),
        Less(1, 1e-5),
    ),
    Claim(
        "Figure 4",
        "the same, later half of outer-training",
        "1e20",
        "gradient_variance",
        lambda result: _variance(result, "last"),
        More(1, 1e20),
    ),
    Claim(
        "Figure 4, on the double well",
        "the same ratio, longest unroll over shortest",
        "above 1",
        "gradient_variance",
        _double_well,
        More(1),
    ),
    *VARIANCES,
    _outer_training("training"),
    _outer_training("validation"),
)
_HELD_OUT = (
    _held_out(
        "Figure 6a",
        "training loss of Adam with its rate tuned less that of the optimizer trained on L_train",
        "training_differences",
        "adam",
    ),
    _held_out(
        "Figure 6a",
        "the same, Adam with 8 hyperparameters tuned",
        "training_differences",
        "adam8",
    ),
    _held_out(
        "Figure 6b",
        "test loss of Adam with its rate tuned less that of the optimizer trained on L_valid",
        "differences",
        "adam",
    ),
    _held_out(
        "Figure 6b",
        "the same, Adam with 8 hyperparameters tuned",
        "differences",
        "adam8",
    ),
    Claim(
        "Figure 6b",
        "final test loss, trained on L_train less trained on L_valid",
        "above 0",
        "held_out_curves",
        _overfits,
        More(0),
    ),
    Claim(
        "Figure 6c",
        "share of held-out tasks with a lower test loss than Adam with 8 hyperparameters",
        "the majority",
        "held_out_curves",
        lambda result: _majority(result, "differences"),
        More(0.5),
    ),
    Claim(
        "Figure 6c",
        "the same for the training loss, trained on L_train",
        "the majority",
        "held_out_curves",
        lambda result: _majority(result, "training_differences"),
        More(0.5),
    ),
    Claim(
        "Figure 7",
        "test loss of a CNN of six layers that the optimizer never saw, over that of guessing",
        "below 1",
        "out_of_distribution",
        _reduced,
        Less(1),
    ),
    Claim(
        "Figure 7",
        "its final test loss, trained on L_train less trained on L_valid",
        "above 0",
        "out_of_distribution",
        lambda result: _network(result, "training"),
        More(0),
    ),
    Claim(
        "Figure 7",
        "its final test loss, Adam with its rate tuned less trained on L_valid",
        "about 0 or above",
        "out_of_distribution",
        lambda result: _network(result, "adam"),
        More(0),
    ),
)

PAPER = Paper(
    "Understanding and correcting pathologies in the training of learned optimizers",
    "Metz et al. 2019, [arXiv 1810.10180](https://arxiv.org/abs/1810.10180)",
    (*_FIRST, *_HELD_OUT, *ABLATION),
)
