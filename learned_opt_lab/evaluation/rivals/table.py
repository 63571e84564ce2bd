"""The table of rivals: name -> optimizer, published default, search space.

All are Optax's. Defaults are those of the paper or of its authors' code, `source` says which; where
these have none, Optax's stays. `docs/evaluation.md` tells what differs. Of what is searched:

| hyperparameter | meaning |
|---|---|
| `learning_rate` | the largest rate of the run |
| `one_minus_b1`, `one_minus_b2`, `one_minus_b3`, `one_minus_momentum` | decays of averages |
| `weight_decay` | share taken away a step, times the rate |
| `schedule`, `warmup` | `learned_opt_lab.evaluation.rivals.schedules` |
"""

import optax
from optax import contrib

from learned_opt_lab.evaluation.rivals import factories
from learned_opt_lab.evaluation.rivals.rival import NO_SCHEDULE, WITH_SCHEDULE, Rival
from learned_opt_lab.evaluation.rivals.search_space import Axis, LogUniform, SearchSpace

_ADAM_RATE = LogUniform(1e-5, 1e-1)
_SGD_RATE = LogUniform(1e-4, 1e1)
_FREE_RATE = LogUniform(1e-1, 1e1)
_DECAY = LogUniform(1e-5, 1e0)
_B1, _B2 = LogUniform(1e-2, 0.5), LogUniform(1e-4, 0.3)


def _space(
    searched: tuple[str, ...] = tuple(WITH_SCHEDULE), /, **axes: tuple[float, Axis]
) -> SearchSpace:
    """Of pairs of default and axis, with what is searched of the schedule."""
    return SearchSpace(
        {name: default for name, (default, _) in axes.items()}
        | {name: NO_SCHEDULE[name] for name in searched},
        {name: axis for name, (_, axis) in axes.items()}
        | {name: WITH_SCHEDULE[name] for name in searched},
    )


def _averages(b1: float = 0.9, b2: float = 0.999) -> dict[str, tuple[float, Axis]]:
    return {"one_minus_b1": (1 - b1, _B1), "one_minus_b2": (1 - b2, _B2)}


RIVALS: dict[str, Rival] = {
    "sgd": Rival(
        optax.sgd,
        _space(learning_rate=(1e-2, _SGD_RATE)),
        "Keras",
        "SGD",
    ),
    "momentum": Rival(
        factories.momentum,
        _space(learning_rate=(1e-1, _SGD_RATE), one_minus_momentum=(0.1, LogUniform(1e-3, 1.0))),
        "arXiv 1512.03385, section 3.4, without its decay and its drops",
        "SGD with momentum",
    ),
    "rmsprop": Rival(
        optax.rmsprop,
        _space(learning_rate=(1e-3, _ADAM_RATE)),
        "Keras; decay .9 of Hinton's lecture 6e; eps 1e-8 as in Optax, in Keras 1e-7",
        "RMSProp, decay .9",
    ),
    "adam": Rival(
        optax.adam,
        _space(learning_rate=(1e-3, _ADAM_RATE), **_averages()),
        "arXiv 1412.6980, algorithm 1",
        "Adam",
    ),
    "adamw": Rival(
        optax.adamw,
        _space(learning_rate=(1e-3, _ADAM_RATE), weight_decay=(1e-4, _DECAY), **_averages()),
        "arXiv 1711.05101, loshchil/AdamW-and-SGDW; decay, which has no default there, of Optax",
        "AdamW",
    ),
    "nadamw": Rival(
        optax.nadamw,
        _space(learning_rate=(2e-3, _ADAM_RATE), weight_decay=(1e-4, _DECAY), **_averages()),
        "Dozat 2016, as in PyTorch, without its growing momentum; decay of Optax",
        "Nesterov AdamW",
    ),
    "lion": Rival(
        optax.lion,
        _space(
            learning_rate=(1e-4, LogUniform(1e-6, 1e-2)),
            weight_decay=(1e-3, _DECAY),
            **_averages(0.9, 0.99),
        ),
        "arXiv 2302.06675, google/automl; decay of Optax, ten times AdamW's, in google/automl 0",
        "Lion",
    ),
    "adabelief": Rival(
        optax.adabelief,
        _space(learning_rate=(1e-3, _ADAM_RATE), **_averages()),
        "arXiv 2010.07468, juntang-zhuang/Adabelief-Optimizer; not rectified, as in the paper",
        "AdaBelief",
    ),
    "muon": Rival(
        factories.muon,
        _space(
            learning_rate=(2e-2, LogUniform(1e-4, 1e0)),
            adam_share=(1.5e-2, LogUniform(1e-3, 1e0)),
            one_minus_momentum=(0.05, LogUniform(1e-2, 0.5)),
            weight_decay=(0.0, _DECAY),
        ),
        "Jordan 2024, KellerJordan/Muon: .02; Adam 3e-4, b2 .95, eps 1e-10, in Optax .999, 1e-8",
        "Muon on hidden matrices, Adam on embeddings, heads and vectors",
    ),
    "schedule_free": Rival(
        factories.schedule_free,
        _space(
            ("warmup",),
            learning_rate=(2.5e-3, _ADAM_RATE),
            one_minus_b1=(0.1, LogUniform(1e-2, 0.2)),
            one_minus_b2=(1e-3, _B2),
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2405.15682, facebookresearch/schedule_free",
        "Schedule-Free AdamW; losses are those of its averaged parameters",
    ),
    "prodigy": Rival(
        factories.prodigy,
        _space(
            ("schedule",),
            learning_rate=(1.0, _FREE_RATE),
            growth=(1.0, LogUniform(1e-1, 1e1)),
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2306.06101, konstmish/prodigy; corrected for bias as in Optax, there an option",
        "Prodigy",
    ),
    "dadapt_adamw": Rival(
        contrib.dadapt_adamw,
        _space(learning_rate=(1.0, _FREE_RATE), weight_decay=(0.0, _DECAY)),
        "arXiv 2301.07733, facebookresearch/dadaptation; corrected for bias as in Optax",
        "AdamW with D-Adaptation",
    ),
    "ademamix": Rival(
        factories.ademamix,
        _space(
            learning_rate=(1e-3, _ADAM_RATE),
            alpha=(5.0, LogUniform(1.0, 1e1)),
            one_minus_b3=(1e-4, LogUniform(1e-4, 1e-1)),
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2409.03137, algorithm 1, apple/ml-ademamix; both warm-ups, in Optax none",
        "AdEMAMix, warmed up over the whole run",
        takes_num_steps=True,
    ),
    "adopt": Rival(
        contrib.adopt,
        _space(learning_rate=(1e-3, _ADAM_RATE), **_averages(0.9, 0.9999)),
        "arXiv 2411.02853, iShohei220/adopt: clipped",
        "ADOPT",
    ),
    "momo_adam": Rival(
        contrib.momo_adam,
        _space(
            learning_rate=(1e-2, LogUniform(1e-4, 1e0)),
            one_minus_b1=_averages()["one_minus_b1"],
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2305.07583, fabian-sp/MoMo: lower bound 0",
        "MoMo-Adam, told the loss of each batch",
        extra_args=("value",),
    ),
    "sophia": Rival(
        contrib.sophia,
        _space(
            learning_rate=(1e-4, LogUniform(1e-5, 1e-1)),
            gamma=(1e-2, LogUniform(1e-3, 1e0)),
            weight_decay=(1e-1, _DECAY),
        ),
        "arXiv 2305.14342, Liuhong99/Sophia: decay .1, in Optax 1e-4; gamma of Optax",
        "Sophia-H, told the loss function of each batch",
        extra_args=("obj_fn",),
    ),
}
"""Open: a further entry is a rival everywhere (`evaluate`, `tune`, both leagues, tests)."""
