"""What an ablation's numbers say: sentences, and a table of them."""

from typing import Any

import numpy as np

from learned_opt_lab.drawing.text import markdown_cell
from learned_opt_lab.results.folder import show


def untrained(result: dict[str, Any]) -> list[tuple[dict[str, Any], int]]:
    """Rows of variants with runs in which no outer loss was finite, and how many runs."""
    counts = [(row, row["outer_steps_with_a_finite_loss"].count(0.0)) for row in result["variants"]]
    return [(row, count) for row, count in counts if count]


_VERDICTS = {True: "is", False: "is not", None: "is perhaps"}


def findings(result: dict[str, Any]) -> list[str]:
    """What the numbers say, in sentences; none depends on how long anything took."""
    rows = {row["variant"]: row for row in result["variants"]}
    best = rows[result["best"]]
    others = [row for row in result["variants"] if row is not best]
    near = ", ".join(row["label"] for row in others if row["within_noise_of_best"]) or "none"
    if others and all(row["within_noise_of_best"] is None for row in others):
        near = "unknown, for want of several seeds and tasks"
    lines = [
        f"Lowest outer loss: {best['label']}, {_number(best['outer_loss'])}. Within noise of it: "
        f"{near}."
    ]
    lines += [
        f"{row['label']}: in {n} of its runs no outer loss was finite."
        for row, n in untrained(result)
    ]
    base = rows.get(result["base"])
    if base is not None and base is not best:
        verdict = f"{_VERDICTS[base['within_noise_of_best']]} within noise of best"
        lines.append(
            f"The config itself ({base['label']}) {verdict}: "
            f"{_number(base['difference_to_best'])} above it."
        )
    elif base is not None:
        lines.append("The config itself is best.")
    lines += _against_parts(base, rows)
    if (objective := result["objective"]) is not None:
        lines += _objective(objective)
    return lines


def _against_parts(base: dict[str, Any] | None, rows: dict[str, Any]) -> list[str]:
    """The base less RP and less ES, and the most that RP's variance came to."""
    lines = []
    for row in rows.values() if base is not None else ():
        if row["label"].endswith(" only") and row["group"] == "estimator":
            deviations = [show(each["spread_over_seeds"]["deviation"], 2) for each in (base, row)]
            lines.append(
                f"{base['label']} less {row['label']}: {_number(row['base_less_variant'])}; "
                f"deviation over seeds {deviations[0]} and {deviations[1]}."
            )
    ratios = ((base or {}).get("along") or {}).get("variance_ratio")
    if ratios is not None and not np.isnan(ratios).all():
        most, along = int(np.nanargmax(ratios)), base["along"]
        size = f"{show(ratios[most], 2)} times ES's" if np.isfinite(ratios[most]) else "infinite"
        weight = along.get("weight_reparameterization", [np.nan] * len(ratios))[most]
        lines.append(
            f"{base['label']}: RP's variance comes to {size}, at truncations of "
            f"{along['truncation_length'][most]:.0f}, where its weight is {show(weight, 2)}."
        )
    return lines


def _objective(objective: dict[str, Any]) -> list[str]:
    lines = []
    for name, label in (("test_loss", "over the episode"), ("final_test_loss", "at its end")):
        difference = objective[name]["difference"]
        verdict = (
            "lower"
            if difference["low"] > 0
            else "higher"
            if difference["high"] < 0
            else "no different"
        )
        verdict = "of unknown sign" if np.isnan(difference["low"]) else verdict
        lines.append(
            f"Held-out test loss {label} after training on L_valid is {verdict}: "
            f"{objective[name]['trained_on_valid']:.4g} against "
            f"{objective[name]['trained_on_train']:.4g} after "
            f"L_train; difference {_number(difference)}."
        )
    return lines


HEAD = (
    "variant",
    "seeds",
    "outer steps",
    "outer rate",
    "outer loss",
    "over seeds",
    "above the best",
    "within noise",
    "base less this",
    "at equal seconds",
    "held-out test loss",
    "s a seed",
)


def table(result: dict[str, Any]) -> str:
    """`table.md`."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in result["variants"]:
        is_best = row["variant"] == result["best"]
        against = row["at_equal_seconds"] and row["at_equal_seconds"]["base_less_variant"]
        cells = [
            markdown_cell(row["label"]),
            str(row["num_seeds"]),
            str(row["num_outer_steps"]),
            "" if row["outer_rate"] is None else f"{row['outer_rate']:g}",
            _number(row["outer_loss"]),
            show(row["spread_over_seeds"]["deviation"], 2),
            "best" if is_best else _number(row["difference_to_best"]),
            {True: "yes", False: "no", None: "unknown"}[row["within_noise_of_best"]],
            _number(row["base_less_variant"]),
            _number(against),
            _number(row["held_out_test_loss"]),
            show(row["seconds_of_outer_training"], 3),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    counts = f"up to {result['num_seeds']} seeds, {result['num_tasks']} tasks"
    about = f"{counts}; [95 % bootstrap interval over both]; over seeds: standard deviation"
    return "\n".join([*lines, "", about, "", *(f"- {line}" for line in result["findings"]), ""])


def _number(interval: dict[str, float] | None) -> str:
    """An estimate with its interval; words where there is none of the one or the other."""
    if interval is None:
        return "-"
    if np.isnan(interval["estimate"]):
        return "unknown"
    if np.isnan(interval["low"]):
        return f"{show(interval['estimate'])} [unknown]"
    return f"{show(interval['estimate'])} [{show(interval['low'])}, {show(interval['high'])}]"
