"""What `learned_opt_lab/cli/listing/names.json` must hold, from the tables themselves;
`python -m tests.support.lab.names` writes it.
"""

import json

from learned_opt.catalog import OPTIMIZERS
from learned_opt_lab.cli.listing import tables
from learned_opt_lab.cli.listing.docstrings import summary
from learned_opt_lab.evaluation.baselines import BASELINES, DEFAULT_RANDOM_BUDGET
from learned_opt_lab.evaluation.rivals.schedules import SCHEDULES
from learned_opt_lab.evaluation.rivals.table import RIVALS
from tasks.suites import SUITES

OF_SCHEDULES = {
    "constant": "The rate as it is, without end.",
    "linear": "To zero in a straight line.",
    "cosine": "To zero along half a cosine (arXiv 1608.03983).",
}


def searched(name: str) -> str:
    each = BASELINES[name]
    count = each.num_configurations(DEFAULT_RANDOM_BUDGET)
    if count == 1:
        return f"{each.description}."
    how = f"a grid of {count}" if each.search == "grid" else f"{count} random draws"
    return f"{each.description}; tuned over {how}."


def untuned(name: str) -> str:
    rate = RIVALS[name].space.default["learning_rate"]
    return f"{RIVALS[name].description}; untuned at rate {rate:g} ({RIVALS[name].source})."


def collect() -> dict[str, dict[str, str]]:
    sizes = {name: f"{len(each.tasks)} tasks. {each.description}" for name, each in SUITES.items()}
    return {
        "optimizers": {name: summary(each.__doc__) for name, each in OPTIMIZERS.items()},
        "baselines": {name: searched(name) for name in BASELINES},
        "rivals": {name: untuned(name) for name in RIVALS},
        "schedules": {name: OF_SCHEDULES[name] for name in SCHEDULES},
        "suites": sizes,
    }


if __name__ == "__main__":
    text = json.dumps(collect(), indent=1, ensure_ascii=False) + "\n"
    tables.PATH.write_text(text, encoding="utf-8")
