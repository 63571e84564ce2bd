"""Online stochastic meta-descent on learning rate
and momentum (Wu et al., ICLR 2018, arXiv 1803.02021, Figs 7 and 8).

    learned-opt reproduce online_smd --out DIR

While a network trains, its learning rate and momentum descend the loss five steps ahead, by forward
mode over an `UnrolledSystem` whose one step is such a lookahead. On fresh minibatches the rate
falls far below the best fixed one from every start, and the loss suffers; with one minibatch
repeated through the lookahead it grows far above it instead. In a second phase adaptation stops and
every rate decays exponentially. A few minutes on two cores; `--scale paper` is the paper's MNIST
and CIFAR-10 experiment.

Seen at the default size (MLP; CNN), from the three starts, when adaptation ends. On 8x8
Fashion-MNIST the effective rate alpha / (1 - mu) is 108, 85, 22 times below the best fixed one;
153, 152, 92 times. Alpha itself is 18.5, 13.8, 3.2 times below; 23, 25, 14 times: the momentum
falls too, so from the MLP's highest start the tenfold fall shows in the effective rate only.
Training loss .64, .60, .55 against .49; .76, .75, .61 against .52. On digits with a fifth of the
labels wrong: effective rates 20 to 50 and 49 to 121 times below, alpha only 2.6 to 11 and 8 to 22
times; loss .84 to .94 against .35, and .92 to 1.12 against .36. With one batch repeated the
effective rate is 10, where its range ends, 100 and 33 times above, on both sets.
"""

import dataclasses
import pathlib
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from learned_opt.hand_designed import Pair, constant_schedule, decode_pair, encode_pair
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.scales import at_scale
from learned_opt_lab.papers.wu2018.meta_descent.online_smd_figure import online_figure
from learned_opt_lab.papers.wu2018.meta_descent.smd_lookahead import AdaptiveState, adapt
from learned_opt_lab.papers.wu2018.meta_descent.smd_tasks import (
    Training,
    jit_over,
    load_data,
    make_training,
    sgd_steps,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells

FINAL_RATE = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment; what is not given is the scale's own.

    Attributes:
      scale: `"paper"` is MNIST and CIFAR-10 through TFDS, with the paper's sizes.
      problems: (data set, network), names in
        `learned_opt_lab.papers.wu2018.meta_descent.smd_tasks`; `"auto"` is 8x8 Fashion-MNIST where
        it is prepared, and else digits with a fifth of the labels wrong: without noise there is no
        bias to show.
      batch_size: of training and of the lookahead.
      lookahead: steps from the present to the loss that is descended.
      num_steps: of training with adaptation, and as many of decay.
      steps_per_adaptation: training steps between adaptations.
      num_meta_steps: of Adam at each adaptation.
      meta_learning_rate: of Adam on (log(alpha / (1 - mu)), log(1 - mu)).
      start_rates: learning rates at which SMD starts, with momentum .9.
      fixed_rates: from which the best fixed one is chosen, with momentum .9.
      num_records: points of the curves in each phase.
      seed: of everything.
    """

    scale: Literal["default", "paper"] = "default"
    problems: tuple[tuple[str, str], ...] | None = None
    batch_size: int | None = None
    lookahead: int = 5
    num_steps: int | None = None
    steps_per_adaptation: int = 10
    num_meta_steps: int | None = None
    meta_learning_rate: float | None = None
    start_rates: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    fixed_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
    num_records: int = 25
    seed: int = 0


SIZES = {
    "default": Config(
        problems=(("auto", "mlp_32_32"), ("auto", "small_cnn")),
        batch_size=20,
        num_steps=3000,
        num_meta_steps=20,
        meta_learning_rate=0.03,
    ),
    "paper": Config(
        scale="paper",
        problems=(("mnist", "mlp_100_100"), ("cifar10", "caffe_cnn")),
        batch_size=100,
        num_steps=25_000,
        num_meta_steps=100,
        meta_learning_rate=0.01,
    ),
}


class Curves(NamedTuple):
    """Recorded along a run.

    Attributes:
      loss: over the training set, `[runs, records]`.
      rate: learning rate, `[runs, records]`.
      momentum: `[runs, records]`.
    """

    loss: np.ndarray
    rate: np.ndarray
    momentum: np.ndarray


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json` and one figure a problem to `out`; returns what is in the former."""
    given, config = config, resolve(config)
    out.mkdir(parents=True, exist_ok=True)
    result = {"problems": []}
    loaded = [load_data(dataset, fallback="noisy_digits") for dataset, _ in config.problems]
    cells = Cells(out, __name__, given, Curves, data=[data for _, data in loaded])
    for (dataset, data), (_, network) in zip(loaded, config.problems, strict=True):
        training = make_training(data, network, config.batch_size)
        curves = _run_problem(training, config, cells.within(f"{dataset}_{network}"))
        result["problems"].append(
            {"dataset": dataset, "network": network, **_summary(config, curves)}
        )
        save(
            online_figure(config, curves, f"{network} on {dataset}"),
            out / f"{dataset}_{network}.png",
        )
    write_result(out / "result.json", result)
    return result


def resolve(config: Config) -> Config:
    """Fills in what is None from the scale's sizes.

    Raises:
      ValueError: if the steps do not divide into records of whole adaptations.
    """
    config = at_scale(config, SIZES)
    if config.num_steps % (config.num_records * config.steps_per_adaptation):
        raise ValueError(
            f"num_steps must be a multiple of num_records x steps_per_adaptation, "
            f"{config.num_records * config.steps_per_adaptation}, got {config.num_steps}"
        )
    return config


def _adaptive_phase(training: Training, config: Config, mode: str, thetas: Pair, key):
    """Trains with adaptation (`mode` "fixed": without): states and curves, leaves `[runs, ...]`."""
    learned = constant_schedule()
    adam = optax.adam(config.meta_learning_rate)
    key_init, key_adapt, key_train = jax.random.split(key, 3)
    params = training.task.init(key_init)

    def cycle(training, state, i):
        if mode != "fixed":
            state = adapt(
                training,
                state,
                jax.random.fold_in(key_adapt, i),
                lookahead=config.lookahead,
                num_meta_steps=config.num_meta_steps,
                meta_learning_rate=config.meta_learning_rate,
                same_batch=mode == "same batch",
            )
        keys = jax.random.split(jax.random.fold_in(key_train, i), config.steps_per_adaptation)
        params, opt_state = sgd_steps(
            training, learned, state.theta, state.params, state.opt_state, keys
        )
        return state._replace(params=params, opt_state=opt_state), None

    def record(training, state, cycles):
        state, _ = lax.scan(partial(cycle, training), state, cycles)
        return state, (training.full_loss(state.params), *decode_pair(state.theta))

    def one(training, theta):
        opt_state = learned.optimizer(theta).init(params)
        state = AdaptiveState(params, opt_state, theta, adam.init(theta))
        cycles = jnp.arange(config.num_steps // config.steps_per_adaptation).reshape(
            config.num_records, -1
        )
        return lax.scan(partial(record, training), state, cycles)

    over_runs = lambda training, thetas: jax.vmap(partial(one, training))(thetas)
    states, records = jit_over(training, over_runs, thetas)
    return states, Curves(*(np.asarray(x, float) for x in records))


def _decay_phase(training: Training, config: Config, states: AdaptiveState, key) -> Curves:
    """As many steps again, every rate falling exponentially from
    where it stands to `FINAL_RATE`.
    """
    learned = constant_schedule()

    def one(training, state):
        first = state.theta.log_effective_rate + state.theta.log_one_minus_momentum

        def step(carry, i):
            share = (i + 1).astype(first.dtype) / config.num_steps
            log_rate = first + share * (np.log(FINAL_RATE) - first)
            one_minus = state.theta.log_one_minus_momentum
            theta = Pair(log_rate - one_minus, one_minus)
            return sgd_steps(
                training, learned, theta, *carry, jax.random.fold_in(key, i)[None]
            ), decode_pair(theta)

        def record(carry, steps):
            carry, pairs = lax.scan(step, carry, steps)
            return carry, (training.full_loss(carry[0]), *(x[-1] for x in pairs))

        steps = jnp.arange(config.num_steps).reshape(config.num_records, -1)
        return lax.scan(record, (state.params, state.opt_state), steps)[1]

    over_runs = lambda training, states: jax.vmap(partial(one, training))(states)
    return Curves(*(np.asarray(x, float) for x in jit_over(training, over_runs, states)))


def _run_problem(training: Training, config: Config, cells: Cells) -> dict[str, Curves]:
    """Curves of both phases: `fixed` is the best fixed rate alone,
    the others hold one run a start.
    """
    key_adaptive, key_decay = jax.random.split(jax.random.key(config.seed))

    def both_phases(mode: str, rates: tuple[float, ...]) -> Curves:
        thetas = jax.vmap(lambda rate: encode_pair(rate, 0.9))(jnp.asarray(rates, jnp.float32))
        states, adaptive = _adaptive_phase(training, config, mode, thetas, key_adaptive)
        if mode == "fixed":
            best = lowest_known(adaptive.loss[:, -1], "final loss at a fixed rate")
            states = jax.tree.map(lambda x: x[best : best + 1], states)
            adaptive = Curves(*(x[best : best + 1] for x in adaptive))
        decay = _decay_phase(training, config, states, key_decay)
        return Curves(*(np.concatenate(pair, 1) for pair in zip(adaptive, decay, strict=True)))

    starts = {"fixed": config.fixed_rates, "smd": config.start_rates}
    starts["same batch"] = config.start_rates
    return {
        mode: cells(mode.replace(" ", "_"), lambda mode=mode, rates=rates: both_phases(mode, rates))
        for mode, rates in starts.items()
    }


def _summary(config: Config, curves: dict[str, Curves]) -> dict:
    """Rates and losses when adaptation ends, and losses after the decay."""
    end = config.num_records - 1
    fixed = curves["fixed"]
    summary = {
        "fixed": {"learning_rate": fixed.rate[0, end], "momentum": fixed.momentum[0, end]},
        "fixed_loss": fixed.loss[0, end],
        "fixed_loss_after_decay": fixed.loss[0, -1],
    }
    effective = fixed.rate[0, end] / (1 - fixed.momentum[0, end])
    for mode in ("smd", "same batch"):
        rates, momenta = curves[mode].rate[:, end], curves[mode].momentum[:, end]
        summary[mode.replace(" ", "_")] = [
            {
                "start_rate": start,
                "learning_rate": rate,
                "momentum": momentum,
                "fixed_over_effective_rate": effective / (rate / (1 - momentum)),
                "fixed_over_learning_rate": fixed.rate[0, end] / rate,
                "loss": _printable(loss),
                "loss_after_decay": _printable(after),
            }
            for start, rate, momentum, loss, after in zip(
                config.start_rates,
                rates,
                momenta,
                curves[mode].loss[:, end],
                curves[mode].loss[:, -1],
                strict=True,
            )
        ]
    return summary


def _printable(x):
    """JSON has no nan and no infinity."""
    return float(x) if np.isfinite(x) else str(float(x))
