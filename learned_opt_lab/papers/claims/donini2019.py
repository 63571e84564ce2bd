"""Claims of Donini et al. 2019 (arXiv 1910.08525)."""

from typing import Any

import numpy as np

from learned_opt_lab.papers.claims.claim import Claim, Paper
from learned_opt_lab.papers.claims.measured import Measured, exact, mean_of, once, resampled
from learned_opt_lab.papers.claims.rules import Less, More, Same
from learned_opt_lab.papers.donini2019.lr_schedules_summary import widest_stretch

Result = dict[str, Any]
ON_PAR = 1.0
"""Points of accuracy, four times what the paper calls statistically on par."""


def _beale(result: Result) -> Measured:
    pairs = zip(result["beale"]["HD"], result["beale"]["RTHO"], strict=True)
    kept = [(hd, rtho) for hd, rtho in pairs if not (hd["diverged"] or rtho["diverged"])]
    return exact(min(hd["best_loss"] / rtho["best_loss"] for hd, rtho in kept))


def _bukin(result: Result) -> Measured:
    found = result["bukin"]
    return exact(found["RTHO"]["final_loss"] / found["HD"]["final_loss"])


def _optimized(result: Result) -> Measured:
    optimized = np.array(result["lrs_opt"]["accuracies"])
    constant = np.array(result["constant"]["accuracies"])[: len(optimized)]
    return mean_of(100 * (optimized - constant), "seeds, in pairs")


def _lowest_rate(result: Result) -> Measured:
    return mean_of(result["online"]["HD"]["lowest_rates_at_the_best"], "seeds")


def _of_online(result: Result, method: str) -> np.ndarray:
    row = result["online"][method]
    return 100 * np.array(row["accuracies"][row["best_index"]])


def _online(result: Result, method: str, other: str) -> Measured:
    return mean_of(_of_online(result, method) - _of_online(result, other), "seeds, in pairs")


def _usable(result: Result) -> Measured:
    """Decades of MARTHE less those of the best of HD and a fixed mu, seeds resampled."""
    rows = {name: result["online"][name] for name in ("MARTHE", "HD", "mu = .99")}
    accuracies = {name: np.array(row["accuracies"]) for name, row in rows.items()}

    def decades(name: str, seeds: np.ndarray) -> float:
        mean = accuracies[name][:, seeds].mean(axis=1)
        positions = np.log10(rows[name]["hyper_learning_rates"])
        return widest_stretch(positions, mean >= mean.max() - 0.02)

    def difference(seeds: np.ndarray) -> float:
        marthe, *others = (decades(name, seeds) for name in rows)
        return marthe - max(others)

    return resampled(difference, accuracies["MARTHE"].shape[1], "seeds, resampled")


def _sensitivity(result: Result) -> Measured:
    found = result["sensitivity"]
    accuracy, mus = 100 * np.array(found["test_accuracy"]), np.array(found["mus"])
    of_mus = accuracy.max(axis=(0, 1))
    inner = (mus > 0) & (mus < 1)
    return once(of_mus[inner].max() - of_mus[~inner].max())


def _images(result: Result, setting: str, other: str) -> Measured:
    rows = result[setting]["methods"]
    marthe, theirs = (100 * np.array(rows[name]["accuracies"]) for name in ("MARTHE", other))
    return mean_of(marthe - theirs, "seeds, in pairs")


def _compare(where: str, setting: str, schedule: str, printed: str) -> tuple[Claim, ...]:
    network = {"vgg_sgdm": "VGG", "resnet_adam": "ResNet"}[setting]
    says = "{}: test accuracy of MARTHE less that of {}, in points"
    return (
        Claim(
            where,
            says.format(network, schedule),
            printed,
            "image_classification_schedules",
            lambda result: _images(result, setting, schedule),
            Same(ON_PAR),
        ),
        *(
            Claim(
                where,
                says.format(network, other),
                "above 0",
                "image_classification_schedules",
                lambda result, other=other: _images(result, setting, other),
                More(0),
            )
            for other in ("HD", "RTHO")
        ),
    )


PAPER = Paper(
    "MARTHE: scheduling the learning rate via online hypergradients",
    "Donini et al. 2019, [arXiv 1910.08525](https://arxiv.org/abs/1910.08525)",
    (
        Claim(
            "Figure 1, left and center",
            "Beale's function: best loss of HD over that of RTHO, smallest of all beta",
            "above 1",
            "hypergradient_surfaces",
            _beale,
            More(1),
        ),
        Claim(
            "Figure 1, right",
            "Bukin's function: final loss of RTHO over that of HD",
            "above 1",
            "hypergradient_surfaces",
            _bukin,
            More(1),
        ),
        Claim(
            "Figure 2",
            "validation accuracy of LRS-OPT less that of a constant rate, in points",
            "8.7 (96.2 less 87.5)",
            "lr_schedules",
            _optimized,
            More(0, 8.7),
        ),
        Claim(
            "Figures 2 and 5, center",
            "lowest rate of HD over its first, at its best beta",
            "far below 1",
            "lr_schedules",
            _lowest_rate,
            Less(1),
        ),
        Claim(
            "Figure 2, right",
            "validation accuracy of mu = 0.99 less that of HD, in points",
            "above 0",
            "lr_schedules",
            lambda result: _online(result, "mu = .99", "HD"),
            More(0),
        ),
        Claim(
            "Figure 2, right",
            "the same for mu that adapts",
            "above 0",
            "lr_schedules",
            lambda result: _online(result, "h_mu", "HD"),
            More(0),
        ),
        Claim(
            "Figure 2, right",
            "the same for MARTHE less mu that adapts",
            "above 0",
            "lr_schedules",
            lambda result: _online(result, "MARTHE", "h_mu"),
            More(0),
        ),
        Claim(
            "Figure 2, right",
            "usable decades of MARTHE's hyper-rate less those of HD or mu = 0.99, the wider",
            "above 0",
            "lr_schedules",
            _usable,
            More(0),
        ),
        *_compare("Figure 3, section 6", "vgg_sgdm", "SGDR", "0.25 (92.79 less 92.54): on par"),
        *_compare("Figure 4, section 6", "resnet_adam", "staircase", "0.28 (76.68 less 76.40)"),
        Claim(
            "Figure 6",
            "test accuracy of the best mu between 0 and 1 less that of 0 or 1, in points",
            "above 0",
            "lr_schedules",
            _sensitivity,
            More(0),
        ),
    ),
)
