"""Online stochastic meta-descent on learning rate and momentum (Wu et al., ICLR 2018, arXiv 1803.02021, Figs 7 and 8).

    learned-opt reproduce online_smd --out DIR

While a network trains, its learning rate and momentum descend the loss five steps ahead, by forward mode over an
`InnerProblem` whose one step is such a lookahead. On fresh minibatches the rate falls far below the best fixed one from
every start, and the loss suffers; with one minibatch repeated through the lookahead it grows far above it instead. In a
second phase adaptation stops and every rate decays exponentially. A few minutes on two cores; `--scale paper` is
the paper's MNIST and CIFAR-10 experiment.
"""

import dataclasses
import json
import pathlib
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure

from evaluation.figures import BLUE, ORANGE, RED, save
from experiments.smd_tasks import Training, jit_over, load_data, make_training, sgd_steps
from learned_opt.schedules import MomentumState, Pair, constant_schedule, decode_pair, encode_pair
from outer_train.estimators.forward_mode import forward_mode
from outer_train.problem import InnerProblem

LOG_EFFECTIVE_RATE_RANGE = tuple(np.log([1e-4, 10.0]))
LOG_ONE_MINUS_MOMENTUM_RANGE = tuple(np.log([1e-4, 1.0]))
GRADIENT_CLIP = 10.0
FINAL_RATE = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment; None stands for the scale's own, in `SIZES`.

    Attributes:
      scale: `"paper"` is MNIST and CIFAR-10 through TFDS, with the paper's sizes.
      problems: (data set, network), names in `experiments.smd_tasks`; `"auto"` is 8x8 Fashion-MNIST where it is
        prepared, and else digits with a fifth of the labels wrong: without noise there is no bias to show.
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


class _State(NamedTuple):
    params: dict
    opt_state: MomentumState
    theta: Pair
    adam_state: optax.OptState


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json` and one figure a problem to `out`; returns what is in the former."""
    config = resolve(config)
    out.mkdir(parents=True, exist_ok=True)
    result = {"problems": []}
    for dataset, network in config.problems:
        dataset, data = load_data(dataset, fallback="noisy_digits")
        training = make_training(data, network, config.batch_size)
        curves = _run_problem(training, config)
        result["problems"].append({"dataset": dataset, "network": network, **_summary(config, curves)})
        save(_figure(config, curves, f"{network} on {dataset}"), out / f"{dataset}_{network}.png")
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def resolve(config: Config) -> Config:
    """Fills in what is None from the scale's sizes.

    Raises:
      ValueError: if the steps do not divide into records of whole adaptations.
    """
    sizes = SIZES[config.scale]
    empty = {f.name: getattr(sizes, f.name) for f in dataclasses.fields(config) if getattr(config, f.name) is None}
    config = dataclasses.replace(config, **empty)
    if config.num_steps % (config.num_records * config.steps_per_adaptation):
        raise ValueError(
            f"num_steps must be a multiple of num_records x steps_per_adaptation, "
            f"{config.num_records * config.steps_per_adaptation}, got {config.num_steps}"
        )
    return config


def lookahead_problem(training: Training, state, num_steps: int, same_batch: bool) -> InnerProblem:
    """An inner problem whose one step is a lookahead from `state`, `(params, opt_state)`, that leaves it untouched.

    The loss is that of the weights after `num_steps` steps, on the next `num_steps` minibatches.

    Args:
      training: the task.
      state: where the training stands.
      num_steps: of the lookahead.
      same_batch: repeat one minibatch through the whole of it, loss included (Fig 8).
    """
    learned = constant_schedule()

    def step(theta, state, key, data):
        del data
        keys = jax.random.split(key, 2 * num_steps)
        if same_batch:
            keys = jnp.broadcast_to(keys[:1], keys.shape)
        params, _ = sgd_steps(training, learned, theta, *state, keys[:num_steps])
        loss_keys = keys[num_steps : num_steps + 1] if same_batch else keys[num_steps:]
        return state, jnp.mean(jax.vmap(lambda key: _batch_loss(training, params, key))(loss_keys))

    return InnerProblem(init=lambda theta, key: state, step=step, num_steps=1)


def _batch_loss(training: Training, params, key):
    key_batch, key_loss = jax.random.split(key)
    return training.task.loss(params, key_loss, training.task.sample_batch(training.data, key_batch, "train"))[0]


def _adapt(training: Training, config: Config, state: _State, key, same_batch: bool) -> _State:
    """The meta-steps of one adaptation: Adam on forward-mode gradients, clipped, hyperparameters kept in range."""
    problem = lookahead_problem(training, (state.params, state.opt_state), config.lookahead, same_batch)
    estimator = forward_mode(problem, num_particles=1)
    adam = optax.adam(config.meta_learning_rate)

    def meta_step(carry, key):
        theta, adam_state = carry
        key_init, key_estimate = jax.random.split(key)
        estimate, _ = estimator.estimate(theta, estimator.init(theta, key_init), key_estimate, 1, ())
        # Clipping alone would keep nan; a lookahead that diverges says nothing about where to go.
        grad = jax.tree.map(lambda g: jnp.where(jnp.isnan(g), 0, g), estimate.grad)
        grad = jax.tree.map(lambda g: jnp.clip(g, -GRADIENT_CLIP, GRADIENT_CLIP), grad)
        with jax.numpy_dtype_promotion("standard"):
            updates, adam_state = adam.update(grad, adam_state)
            theta = optax.apply_updates(theta, updates)
        return (_in_range(theta), adam_state), None

    keys = jax.random.split(key, config.num_meta_steps)
    (theta, adam_state), _ = lax.scan(meta_step, (state.theta, state.adam_state), keys)
    return state._replace(theta=theta, adam_state=adam_state)


def _in_range(theta: Pair) -> Pair:
    return Pair(
        jnp.clip(theta.log_effective_rate, *map(float, LOG_EFFECTIVE_RATE_RANGE)),
        jnp.clip(theta.log_one_minus_momentum, *map(float, LOG_ONE_MINUS_MOMENTUM_RANGE)),
    )


def _adaptive_phase(training: Training, config: Config, mode: str, thetas: Pair, key):
    """Trains with adaptation (`mode` "fixed": without): states and curves, leaves `[runs, ...]`."""
    learned = constant_schedule()
    adam = optax.adam(config.meta_learning_rate)
    key_init, key_adapt, key_train = jax.random.split(key, 3)
    params = training.task.init(key_init)

    def cycle(training, state, i):
        if mode != "fixed":
            state = _adapt(training, config, state, jax.random.fold_in(key_adapt, i), mode == "same batch")
        keys = jax.random.split(jax.random.fold_in(key_train, i), config.steps_per_adaptation)
        params, opt_state = sgd_steps(training, learned, state.theta, state.params, state.opt_state, keys)
        return state._replace(params=params, opt_state=opt_state), None

    def record(training, state, cycles):
        state, _ = lax.scan(partial(cycle, training), state, cycles)
        return state, (training.full_loss(state.params), *decode_pair(state.theta))

    def one(training, theta):
        opt_state = learned.optimizer(theta).init(params)
        state = _State(params, opt_state, theta, adam.init(theta))
        cycles = jnp.arange(config.num_steps // config.steps_per_adaptation).reshape(config.num_records, -1)
        return lax.scan(partial(record, training), state, cycles)

    over_runs = lambda training, thetas: jax.vmap(partial(one, training))(thetas)  # noqa: E731
    states, records = jit_over(training, over_runs, thetas)
    return states, Curves(*(np.asarray(x, float) for x in records))


def _decay_phase(training: Training, config: Config, states: _State, key) -> Curves:
    """As many steps again, every rate falling exponentially from where it stands to `FINAL_RATE`."""
    learned = constant_schedule()

    def one(training, state):
        first = state.theta.log_effective_rate + state.theta.log_one_minus_momentum

        def step(carry, i):
            share = (i + 1).astype(first.dtype) / config.num_steps
            log_rate = first + share * (np.log(FINAL_RATE) - first)
            one_minus = state.theta.log_one_minus_momentum
            theta = Pair(log_rate - one_minus, one_minus)
            return sgd_steps(training, learned, theta, *carry, jax.random.fold_in(key, i)[None]), decode_pair(theta)

        def record(carry, steps):
            carry, pairs = lax.scan(step, carry, steps)
            return carry, (training.full_loss(carry[0]), *(x[-1] for x in pairs))

        steps = jnp.arange(config.num_steps).reshape(config.num_records, -1)
        return lax.scan(record, (state.params, state.opt_state), steps)[1]

    over_runs = lambda training, states: jax.vmap(partial(one, training))(states)  # noqa: E731
    return Curves(*(np.asarray(x, float) for x in jit_over(training, over_runs, states)))


def _run_problem(training: Training, config: Config) -> dict[str, Curves]:
    """Curves of both phases: `fixed` is the best fixed rate alone, the others hold one run a start."""
    key_adaptive, key_decay = jax.random.split(jax.random.key(config.seed))
    curves = {}
    for mode, rates in (("fixed", config.fixed_rates), ("smd", config.start_rates), ("same batch", config.start_rates)):
        thetas = jax.vmap(lambda rate: encode_pair(rate, 0.9))(jnp.asarray(rates, jnp.float32))
        states, adaptive = _adaptive_phase(training, config, mode, thetas, key_adaptive)
        if mode == "fixed":
            final = adaptive.loss[:, -1]
            best = int(np.argmin(np.where(np.isfinite(final), final, np.inf)))
            states = jax.tree.map(lambda x, best=best: x[best : best + 1], states)
            adaptive = Curves(*(x[best : best + 1] for x in adaptive))
        decay = _decay_phase(training, config, states, key_decay)
        curves[mode] = Curves(*(np.concatenate(pair, 1) for pair in zip(adaptive, decay, strict=True)))
    return curves


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
                "loss": _printable(loss),
                "loss_after_decay": _printable(after),
            }
            for start, rate, momentum, loss, after in zip(
                config.start_rates, rates, momenta, curves[mode].loss[:, end], curves[mode].loss[:, -1], strict=True
            )
        ]
    return summary


def _printable(x):
    """JSON has no nan and no infinity."""
    return float(x) if np.isfinite(x) else str(float(x))


def _figure(config: Config, curves: dict[str, Curves], title: str) -> Figure:
    figure = Figure(figsize=(13, 4), dpi=150, layout="constrained")
    loss_axes, rate_axes, momentum_axes = figure.subplots(1, 3)
    steps = np.arange(1, 2 * config.num_records + 1) * config.num_steps / config.num_records
    styles = {
        "fixed": (RED, "best fixed rate"),
        "smd": (BLUE, "SMD"),
        "same batch": (ORANGE, "SMD, one batch repeated"),
    }
    for mode, (color, label) in styles.items():
        effective = curves[mode].rate / np.maximum(1 - curves[mode].momentum, 1e-8)
        for axes, values in (
            (loss_axes, curves[mode].loss),
            (rate_axes, effective),
            (momentum_axes, curves[mode].momentum),
        ):
            for i, run in enumerate(values):
                axes.plot(steps, run, color=color, linewidth=1.3, label=label if i == 0 else None)
    loss_axes.set_yscale("log")
    rate_axes.set_yscale("log")
    top = 10 * np.nanmax(curves["fixed"].loss)
    loss_axes.set_ylim(0.5 * min(np.nanmin(c.loss) for c in curves.values()), top)
    names = ("training loss", "effective rate alpha / (1 - mu)", "momentum")
    for axes, name in zip((loss_axes, rate_axes, momentum_axes), names, strict=True):
        axes.axvline(config.num_steps, color="0.6", linestyle=":")
        axes.set_xlabel("step (dotted: adaptation ends, decay begins)")
        axes.set_title(f"{title}: {name}", fontsize=9)
    loss_axes.legend(fontsize=8)
    return figure
