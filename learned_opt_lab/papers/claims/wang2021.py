"""Claims of Wang, Yuan, Wu, Ge 2021 (arXiv 2006.16495), as their slides print them."""

from typing import Any

from learned_opt_lab.papers.claims.claim import Claim, Paper
from learned_opt_lab.papers.claims.measured import Measured, exact, from_error
from learned_opt_lab.papers.claims.rules import Less, More, Near, Same

LARGEST_FLOAT = 3.4e38


def _growth(result: dict[str, Any], share_of_edge: float) -> Measured:
    rows = {row["step_size_times_L_over_2"]: row for row in result["growth_of_naive_gradient"]}
    return exact(rows[share_of_edge]["rate"])


def _log_gradients(result: dict[str, Any]) -> Measured:
    rows = {(row["step_size"], row["num_steps"]): row for row in result["backpropagation"]}
    return exact(rows[0.1, 1000]["stable"] / rows[0.1, 80]["stable"])


def _lost(result: dict[str, Any]) -> Measured:
    row = next(row for row in result["gradient"] if row["num_steps"] == 80)
    return exact(row["backprop32_share_lost"])


def _descent(result: dict[str, Any]) -> Measured:
    return exact(result["meta_descent"]["log, stable"] / result["best_step_size"])


def _least_squares(result: dict[str, Any], num_samples: int, noise_std: float) -> Measured:
    cell = next(
        c for c in result["table"] if (c["num_samples"], c["noise_std"]) == (num_samples, noise_std)
    )
    best, found = cell["train_by_validation"]["mean"], cell["difference"]
    # The error is a bootstrap's over 40 tasks that choose and 40 that judge.
    error = found["standard_error"] / best
    return from_error(found["mean"] / best, error, 40, "2 x 40 tasks, resampled")


def _learned(result: dict[str, Any], few: bool, label_noise: float) -> Measured:
    cell = next(
        c
        for c in result["cells"]
        if (c["num_samples"] != "all") == few and c["label_noise"] == label_noise
    )
    best, found = cell["train_by_validation"]["test_loss"]["mean"], cell["test_difference"]
    count, error = len(found["of_outer_seeds"]), found["standard_error"] / best
    over = f"{count} outer-trainings, {cell['num_runs']} networks each"
    return from_error(found["mean"] / best, error, count, over)


_FORMER = "by training less by validation loss, over the latter"

PAPER = Paper(
    "Guarantees for tuning the step size using a learning-to-learn approach",
    "Wang, Yuan, Wu, Ge 2021, [arXiv 2006.16495](https://arxiv.org/abs/2006.16495)",
    (
        Claim(
            "Theorem on the final loss F",
            "F' at a step size of 0.1, 80 steps, beside the largest float of 32 bits, 3.4e38",
            "exponentially large",
            "step_size_meta_gradient",
            lambda result: exact(result["at_start"]["naive_gradient"]),
            More(LARGEST_FLOAT),
        ),
        Claim(
            "Theorem on the final loss F",
            "growth of log F' a step, at 1.1 of the edge of stability",
            "above 0",
            "step_size_meta_gradient",
            lambda result: _growth(result, 1.1),
            More(0),
        ),
        Claim(
            "Theorem on the final loss F",
            "growth of log F' a step, at 0.9 of the edge of stability",
            "below 0",
            "step_size_meta_gradient",
            lambda result: _growth(result, 0.9),
            Less(0),
        ),
        Claim(
            "Theorem on G = log(F) / t",
            "G' after 1,000 steps over that after 80, at a step size of 0.1",
            "polynomial",
            "step_size_meta_gradient",
            _log_gradients,
            Near(1, 0.1),
        ),
        Claim(
            "Slide on numerical issues",
            "share of step sizes at which backpropagation through log F gives no number",
            "above 0",
            "step_size_meta_gradient",
            _lost,
            More(0),
        ),
        Claim(
            "Slide on numerical issues",
            "step size that descent on the stable G' ends at, over the best",
            "1",
            "step_size_meta_gradient",
            _descent,
            Near(1, 0.01),
        ),
        Claim(
            "Theorem on generalization, 1",
            f"error of least squares, 100 samples in 200 dimensions, noise 2: {_FORMER}",
            "above 0",
            "step_size_generalization",
            lambda result: _least_squares(result, 100, 2.0),
            More(0),
        ),
        Claim(
            "Theorem on generalization, 2",
            "the same with 3,200 samples and noise 1",
            "near 0",
            "step_size_generalization",
            lambda result: _least_squares(result, 3200, 1.0),
            Same(0.1),
        ),
        Claim(
            "Slide on neural nets, 1,000 samples",
            f"test loss of a learned optimizer, few samples: {_FORMER}",
            "above 0",
            "optimizer_generalization",
            lambda result: _learned(result, True, 0.0),
            More(0),
        ),
        Claim(
            "Section 5 of the paper",
            "the same with a fifth of the labels wrong",
            "above 0",
            "optimizer_generalization",
            lambda result: _learned(result, True, 0.2),
            More(0),
        ),
        Claim(
            "Slide on neural nets, all samples",
            "the same with all samples and right labels",
            "near 0",
            "optimizer_generalization",
            lambda result: _learned(result, False, 0.0),
            Same(0.1),
        ),
    ),
)
