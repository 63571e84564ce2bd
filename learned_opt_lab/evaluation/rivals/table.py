"""The table of rivals: name -> optimizer, published default, search space.

All are Optax's. What a factory of Optax has as its default stays; the rate, which it asks for, is
that of the paper or of its authors' code. Of what is searched:

| hyperparameter | meaning |
|---|---|
| `learning_rate` | the largest rate of the run |
| `one_minus_b1`, `one_minus_b2`, `one_minus_b3`, `one_minus_momentum` | decays of averages |
| `weight_decay` | share taken away a step, times the rate |
| `schedule`, `warmup` | `learned_opt_lab.evaluation.rivals.schedules` |
"""

from typing import Any

import jax
import optax
from optax import contrib

from learned_opt_lab.evaluation.rivals.rival import NO_SCHEDULE, WITH_SCHEDULE, Rival
from learned_opt_lab.evaluation.rivals.search_space import Axis, LogUniform, SearchSpace

_ADAM_RATE = LogUniform(1e-5, 1e-1)
_SGD_RATE = LogUniform(1e-4, 1e1)
_FREE_RATE = LogUniform(1e-1, 1e1)
_DECAY = LogUniform(1e-5, 1e0)
_B1, _B2 = LogUniform(1e-2, 0.5), LogUniform(1e-4, 0.3)


def _space(**axes: tuple[float, Axis]) -> SearchSpace:
    """Of pairs of default and axis, with the schedule."""
    return SearchSpace(
        {name: default for name, (default, _) in axes.items()} | NO_SCHEDULE,
        {name: axis for name, (_, axis) in axes.items()} | WITH_SCHEDULE,
    )


def _averages(b1: float = 0.9, b2: float = 0.999) -> dict[str, tuple[float, Axis]]:
    return {"one_minus_b1": (1 - b1, _B1), "one_minus_b2": (1 - b2, _B2)}


def _momentum(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=momentum)


def _is_matrix(params: optax.Params) -> Any:
    return jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "other", params)


def _muon(learning_rate: Any, adam_share: Any, momentum: Any) -> optax.GradientTransformation:
    """Adam's rate is a share of Muon's, so that both go by one schedule."""
    adam_rate = lambda count: adam_share * learning_rate(count)
    optimizers = {
        "matrix": contrib.muon(learning_rate, beta=momentum),
        "other": optax.adam(adam_rate),
    }
    return optax.partition(optimizers, _is_matrix)


def _schedule_free(
    learning_rate: Any, b1: Any, b2: Any, weight_decay: Any
) -> optax.GradientTransformation:
    """`optax.contrib.schedule_free_adamw`, with a warm-up that may be traced."""
    base = optax.chain(
        optax.scale_by_rms(decay=b2, eps=1e-8, bias_correction=True),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    return contrib.schedule_free(base, learning_rate, b1=b1)


def _prodigy(learning_rate: Any, growth: Any, weight_decay: Any) -> optax.GradientTransformation:
    return contrib.prodigy(learning_rate, estim_lr_coef=growth, weight_decay=weight_decay)


_FREE_SPACE = SearchSpace(
    {
        "learning_rate": 2.5e-3,
        "one_minus_b1": 0.1,
        "one_minus_b2": 1e-3,
        "weight_decay": 0.0,
        "warmup": 0.0,
    },
    {
        "learning_rate": _ADAM_RATE,
        "one_minus_b1": LogUniform(1e-2, 0.2),
        "one_minus_b2": _B2,
        "weight_decay": _DECAY,
        "warmup": WITH_SCHEDULE["warmup"],
    },
)

RIVALS: dict[str, Rival] = {
    "sgd": Rival(
        optax.sgd,
        _space(learning_rate=(1e-2, _SGD_RATE)),
        "default of Keras",
        "SGD",
    ),
    "momentum": Rival(
        _momentum,
        _space(learning_rate=(1e-1, _SGD_RATE), one_minus_momentum=(0.1, LogUniform(1e-3, 1.0))),
        "arXiv 1512.03385, section 3.4",
        "SGD with momentum",
    ),
    "rmsprop": Rival(
        optax.rmsprop,
        _space(learning_rate=(1e-3, _ADAM_RATE)),
        "Hinton's lecture 6e, as in Keras",
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
        "arXiv 1711.05101; decay as in Optax",
        "AdamW",
    ),
    "nadamw": Rival(
        optax.nadamw,
        _space(learning_rate=(2e-3, _ADAM_RATE), weight_decay=(1e-4, _DECAY), **_averages()),
        "Dozat 2016, as in PyTorch; decay as in Optax",
        "Nesterov AdamW",
    ),
    "lion": Rival(
        optax.lion,
        _space(
            learning_rate=(1e-4, LogUniform(1e-6, 1e-2)),
            weight_decay=(1e-3, _DECAY),
            **_averages(0.9, 0.99),
        ),
        "arXiv 2302.06675, authors' code; decay as in Optax",
        "Lion",
    ),
    "adabelief": Rival(
        optax.adabelief,
        _space(learning_rate=(1e-3, _ADAM_RATE), **_averages()),
        "arXiv 2010.07468, authors' code",
        "AdaBelief",
    ),
    "muon": Rival(
        _muon,
        _space(
            learning_rate=(2e-2, LogUniform(1e-4, 1e0)),
            adam_share=(1.5e-2, LogUniform(1e-3, 1e0)),
            one_minus_momentum=(0.05, LogUniform(1e-2, 0.5)),
        ),
        "Jordan 2024, authors' code: .02, and 3e-4 for Adam",
        "Muon for matrices, Adam for what is none",
    ),
    "schedule_free": Rival(
        _schedule_free,
        _FREE_SPACE,
        "arXiv 2405.15682, authors' code",
        "Schedule-Free AdamW; losses are those of its averaged parameters",
    ),
    "prodigy": Rival(
        _prodigy,
        _space(
            learning_rate=(1.0, _FREE_RATE),
            growth=(1.0, LogUniform(1e-1, 1e1)),
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2306.06101, authors' code",
        "Prodigy",
    ),
    "dadapt_adamw": Rival(
        contrib.dadapt_adamw,
        _space(learning_rate=(1.0, _FREE_RATE), weight_decay=(0.0, _DECAY)),
        "arXiv 2301.07733, authors' code",
        "AdamW with D-Adaptation",
    ),
    "ademamix": Rival(
        contrib.ademamix,
        _space(
            learning_rate=(1e-3, _ADAM_RATE),
            alpha=(5.0, LogUniform(1.0, 1e1)),
            one_minus_b3=(1e-4, LogUniform(1e-4, 1e-1)),
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2409.03137, authors' code; averages as in Optax",
        "AdEMAMix",
    ),
    "adopt": Rival(
        contrib.adopt,
        _space(learning_rate=(1e-3, _ADAM_RATE), **_averages(0.9, 0.9999)),
        "arXiv 2411.02853, authors' code",
        "ADOPT",
    ),
    "momo_adam": Rival(
        contrib.momo_adam,
        _space(
            learning_rate=(1e-2, LogUniform(1e-4, 1e0)),
            one_minus_b1=_averages()["one_minus_b1"],
            weight_decay=(0.0, _DECAY),
        ),
        "arXiv 2305.07583, authors' code",
        "MoMo-Adam, told the loss of each batch",
        extra_args=("value",),
    ),
    "sophia": Rival(
        contrib.sophia,
        _space(
            learning_rate=(1e-4, LogUniform(1e-5, 1e-1)),
            gamma=(1e-2, LogUniform(1e-3, 1e0)),
            weight_decay=(1e-4, _DECAY),
        ),
        "arXiv 2305.14342, authors' code; decay as in Optax",
        "Sophia-H, told the loss function of each batch",
        extra_args=("obj_fn",),
    ),
}
"""Open: a further entry is a rival everywhere (`evaluate`, `tune`, both leagues, tests)."""
