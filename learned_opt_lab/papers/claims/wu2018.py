"""Claims of Wu, Ren, Liao, Grosse 2018 (arXiv 1803.02021, and its workshop version)."""

from typing import Any

from learned_opt_lab.papers.claims.claim import Claim, Paper
from learned_opt_lab.papers.claims.measured import Measured, exact, given, once, ratio_of
from learned_opt_lab.papers.claims.rules import Less, More, Near


def _two_dimensional(result: dict[str, Any]) -> Measured:
    found = result["two_dimensional"]
    return exact(found["aggressive_then_decayed"]["at_end"] / found["conservative"]["at_end"])


def _first_over_last(result: dict[str, Any]) -> Measured:
    rates = [row["fixed"]["minimizer"] for row in result["horizons"]]
    return exact(rates[0] / rates[-1])


def _with_decay(result: dict[str, Any]) -> Measured:
    rows = result["horizons"]
    return exact(min(row["with_decay"]["minimizer"] / row["fixed"]["minimizer"] for row in rows))


def _low_curvatures(result: dict[str, Any]) -> Measured:
    shape = result["stochastic"]["optimized_shape"]
    return exact(shape["low_curvature_at_end"] / shape["low_curvature_at_end_greedy"])


def _deterministic(result: dict[str, Any], num_steps: int) -> Measured:
    rows = {row["num_steps"]: row for row in result["deterministic"]["horizons"]}
    return exact(rows[num_steps]["optimized_over_greedy"])


def _offline(result: dict[str, Any], name: str) -> Measured:
    interval = result["intervals"][name]
    if interval is None:
        return once(result[name])
    return given(interval, "minibatch sequences, resampled", result[name])


def _smd(result: dict[str, Any]) -> Measured:
    rows = result["smd"]
    worst = max(rows, key=lambda row: row["median_over_minimum"])
    return ratio_of([loss / worst["surface_minimum"] for loss in worst["losses"]], "starts")


def _rates(result: dict[str, Any], problem: int, mode: str) -> Measured:
    rows = result["problems"][problem][mode]
    return ratio_of([1 / row["fixed_over_effective_rate"] for row in rows], "starts")


def _losses(result: dict[str, Any], problem: int) -> Measured:
    found = result["problems"][problem]
    return ratio_of([float(row["loss"]) / found["fixed_loss"] for row in found["smd"]], "starts")


def _of_schedule(name: str, printed: float) -> Claim:
    return Claim(
        "Figure 3a, section 2.3",
        f"loss after 250 noisy steps, {name} schedule",
        f"{printed}",
        "nqm_schedules",
        lambda result: exact(result["stochastic"][name]),
        Near(printed, 0.05),
    )


def _online(problem: int, network: str) -> tuple[Claim, ...]:
    return (
        Claim(
            "Figure 7",
            f"{network}: effective rate that lookaheads of five steps end at, over the best fixed",
            "far below 1",
            "online_smd",
            lambda result: _rates(result, problem, "smd"),
            Less(1),
        ),
        Claim(
            "Figure 7",
            f"{network}: training loss with that rate, over that at the best fixed one",
            "above 1",
            "online_smd",
            lambda result: _losses(result, problem),
            More(1),
        ),
        Claim(
            "Figure 8",
            f"{network}: the same rate where the lookahead repeats one minibatch",
            "far above 1",
            "online_smd",
            lambda result: _rates(result, problem, "same_batch"),
            More(1),
        ),
    )


PAPER = Paper(
    "Understanding short-horizon bias in stochastic meta-optimization",
    "Wu, Ren, Liao, Grosse 2018, [arXiv 1803.02021](https://arxiv.org/abs/1803.02021)",
    (
        Claim(
            "Figure 1",
            "loss of a large rate that then decays, over that of a small fixed one",
            "below 1",
            "nqm_horizons",
            _two_dimensional,
            Less(1),
        ),
        Claim(
            "Figure 2",
            "best fixed rate for the loss after 10 steps, over that after 250",
            "above 1",
            "nqm_horizons",
            _first_over_last,
            More(1),
        ),
        Claim(
            "Figure 2",
            "best fixed rate where 50 steps of decay follow, over that without; smallest of all",
            "above 1",
            "nqm_horizons",
            _with_decay,
            More(1),
        ),
        _of_schedule("greedy", 63.86),
        _of_schedule("fixed", 42.19),
        _of_schedule("optimized", 4.25),
        Claim(
            "Figure 3a",
            "final loss of the 50 lowest curvatures, optimized over greedy",
            "below 1",
            "nqm_schedules",
            _low_curvatures,
            Less(1),
        ),
        Claim(
            "Figure 3b",
            "without noise, final loss of the optimized schedule over the greedy, 50 steps",
            "1: they match",
            "nqm_schedules",
            lambda result: _deterministic(result, 50),
            Near(1, 0.01),
        ),
        Claim(
            "Figure 3b",
            "the same for 250 steps",
            "1: they match",
            "nqm_schedules",
            lambda result: _deterministic(result, 250),
            Near(1, 0.01),
        ),
        Claim(
            "Figure 5",
            "decay exponent chosen at the shortest horizon over that at the longest",
            "over 100",
            "offline_smd",
            lambda result: _offline(result, "exponent_ratio"),
            More(1, 100),
        ),
        Claim(
            "Figure 5",
            "loss that meta-descent ends at over the surface's lowest, worst horizon",
            "1: the global optimum",
            "offline_smd",
            _smd,
            Near(1, 0.1),
        ),
        Claim(
            "Figure 6, and workshop figure 2",
            "training loss at the longest horizon: the shortest's choice over its own",
            "over 1,000 (4.8e-2 / 4.0e-5)",
            "offline_smd",
            lambda result: _offline(result, "loss_ratio_at_longest"),
            More(1, 1000),
        ),
        *_online(0, "MLP"),
        *_online(1, "CNN"),
    ),
)
