"""Hand-made and online schedules on image classification
(Donini et al. 2019, arXiv 1910.08525, Fig 3 and 4).

    learned-opt reproduce image_classification_schedules --out DIR

A VGG with SGD + momentum and a ResNet with Adam, both with batch normalization. The training loss
has weight decay, the objective E of the online methods has none and is measured, as at test time,
on minibatches of held-out training examples. At default scale every method is tuned with the same
number of trials (`learned_opt_lab.papers.donini2019.image_classification_tuning`), by the accuracy
on other held-out training examples and with seeds of their own; test accuracy is reported for fresh
seeds. Beside it stands MARTHE untuned, by the paper's own recipe: the paper's first rate, and the
meta step that its search finds. At paper scale the rates of all methods are the paper's.

`result.json` has for both MARTHEs the differences to every other method, paired over seeds, with
95 % intervals; and what a step of each method takes on these networks, counted by the compiler.

The default, Fashion-MNIST at 8x8 for 600 steps, takes five minutes on two cores; `--scale
small`, at 28x28 for five epochs, an evening; `--scale paper` reads CIFAR-10 and -100 through TFDS.
"""

import dataclasses
import functools
import pathlib
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

from learned_opt.disk import files
from learned_opt.hypergradient import HyperLearningRateSearch
from learned_opt_lab.evaluation.statistics import deviation
from learned_opt_lab.papers.donini2019 import image_classification_figures
from learned_opt_lab.papers.donini2019 import image_models as models
from learned_opt_lab.papers.donini2019.hand_schedules import HAND, NUM_EPOCHS
from learned_opt_lab.papers.donini2019.image_classification_tuning import (
    DEFAULT_TRIALS,
    PAPER_RATES,
    PAPER_TRIALS,
    UNTUNED,
    Setting,
    programs,
    search_meta_steps,
    step_costs,
    tune,
)
from learned_opt_lab.papers.scales import at_scale
from learned_opt_lab.papers.schedule_runs import split_rows
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from tasks import StatefulTask, as_stateful
from tasks.images import ImageData, classification_task, sample_images, tfds_images


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; those that are None follow the scale.

    Attributes:
      scale: "default" is Fashion-MNIST at 8x8 and small networks, "small" the same at 28x28,
        "paper" CIFAR-10 with VGG-11 and CIFAR-100 with ResNet-18.
      settings: which of the two to run.
      image_size: pixels a side of Fashion-MNIST; the paper's sets have their own.
      num_epochs: of the training split, which give the number of steps (none | 5 | 200).
      num_steps: T in place of whole epochs; a multiple of `num_points` (600 | none | none).
      batch_size: of training and validation minibatches (32 | 128 | 128).
      num_seeds: runs of each method with its tuned rates (12 | 6 | 5).
      num_tuning_seeds: runs of each trial.
      num_points: measurements of a run.
      num_search_steps: steps of a run in the search of MARTHE's meta step.
      first_meta_step: where that search starts.
      weight_decay: lambda; the training loss has lambda / 2 |w|^2.
      max_examples: of the test and of the tuning split, at each measurement.
      seed: of everything.
    """

    scale: Literal["default", "small", "paper"] = "default"
    settings: tuple[str, ...] = ("vgg_sgdm", "resnet_adam")
    image_size: int | None = None
    num_epochs: int | None = None
    num_steps: int | None = None
    batch_size: int | None = None
    num_seeds: int | None = None
    num_tuning_seeds: int = 2
    num_points: int = 10
    num_search_steps: int = 100
    first_meta_step: float = 1e-2
    weight_decay: float = 5e-4
    max_examples: int = 2000
    seed: int = 0


SIZES = {
    "default": Config(image_size=8, num_steps=600, batch_size=32, num_seeds=12),
    "small": Config(image_size=28, num_epochs=5, batch_size=128, num_seeds=6),
    "paper": Config(num_epochs=NUM_EPOCHS, batch_size=128, num_seeds=5),
}


def resolve(config: Config) -> Config:
    """Fills in what is None from the scale's sizes; epochs that are given are no steps."""
    sizes = SIZES
    if config.num_epochs is not None:
        sizes = {name: dataclasses.replace(each, num_steps=None) for name, each in SIZES.items()}
    return at_scale(config, sizes)


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json`, `curves_SETTING.npz` and `SETTING.png` for each setting to `out`.

    Raises:
      ValueError: an unknown setting, a count below 1, or a number of steps that is no multiple of
        the number of measurements.
      tasks.images.datasets.DatasetNotPrepared: the images are not there.
    """
    config = resolve(config)
    unknown = set(config.settings) - {"vgg_sgdm", "resnet_adam"}
    if unknown:
        raise ValueError(f"settings are vgg_sgdm and resnet_adam, got {sorted(unknown)}")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.startswith(("num_", "batch", "max_")) and value is not None and value < 1:
            raise ValueError(f"{field.name} must be at least 1, got {value}")
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"config": dataclasses.asdict(config)}
    settings = {name: _setting(config, name) for name in config.settings}
    data = [setting.data for setting in settings.values()]
    cells = Cells(out, __name__, config, HyperLearningRateSearch, data=data)
    for name, setting in settings.items():
        if setting.num_steps % config.num_points:
            raise ValueError(
                f"num_steps must be a multiple of {config.num_points} points, got "
                f"{setting.num_steps}"
            )
        result[name], curves = _compare(config, setting, name, cells.within(name))
        files.write_npz(
            out / f"curves_{name}.npz",
            {f"{m}/{k}": v for m, c in curves.items() for k, v in c.items()},
        )
        image_classification_figures.draw(name, result[name], curves, out / f"{name}.png")
        write_result(out / "result.json", result)
    return result


def _setting(config: Config, name: str) -> Setting:
    paper, vgg = config.scale == "paper", name == "vgg_sgdm"
    fractions = (0.7, 0.15, 0.1, 0.05)
    if paper:
        data = tfds_images("cifar10" if vgg else "cifar100", fractions=fractions)
    else:
        data = tfds_images(
            "fashion_mnist",
            image_size=config.image_size,
            max_per_class=2000,
            fractions=fractions,
        )
    if vgg:
        module = models.VGG(models.VGG_11 if paper else models.SMALL_VGG, data.num_classes)
    else:
        blocks, stride = (models.RESNET_18, 1) if paper else (models.SMALL_RESNET, 2)
        module = models.ResNet(blocks, data.num_classes, stride)
    batch_size = config.batch_size
    steps_an_epoch = int(np.asarray(data.counts)[0].sum()) // batch_size
    epochs = config.num_epochs or 0
    whole_epochs = epochs * steps_an_epoch // config.num_points * config.num_points
    return Setting(
        task=_task(module, data, batch_size, config.weight_decay),
        data=data,
        inner=functools.partial(optax.sgd, momentum=0.9) if vgg else optax.adam,
        num_steps=config.num_steps or max(whole_epochs, config.num_points),
        num_points=config.num_points,
        tuning_rows=split_rows(data, "outer_valid", config.max_examples),
        test_rows=split_rows(data, "test", config.max_examples),
    )


def _task(module: nn.Module, data: ImageData, batch_size: int, weight_decay: float) -> StatefulTask:
    """Cross-entropy, with weight decay in training."""
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)
    plain = as_stateful(
        classification_task(
            module,
            lambda data, key, split: sample_images(data, key, split, classes, batch_size),
            data.image_shape,
            data.num_classes,
        )
    )

    def loss(params, model_state, key, batch):
        cross_entropy, rest = plain.loss(params, model_state, key, batch)
        penalty = 0.5 * weight_decay * sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
        return cross_entropy + penalty, rest

    return plain._replace(loss=loss)


def _compare(
    config: Config, setting: Setting, name: str, pieces: Cells
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Tunes every method, then runs all on the same seeds:
    final numbers, and curves `[seeds, points or steps]`.
    """
    paper = config.scale == "paper"
    key_search, key_tuning, key_final = jax.random.split(jax.random.key(config.seed), 3)
    tuning_keys = jax.random.split(key_tuning, config.num_tuning_seeds)
    keys = jax.random.split(key_final, config.num_seeds)
    trials = PAPER_TRIALS[name] if paper else DEFAULT_TRIALS[name]
    search = functools.partial(
        search_meta_steps,
        setting,
        num_steps=config.num_search_steps,
        start=config.first_meta_step,
        key=key_search,
    )
    searches = pieces("search", lambda: search(trials.online))
    by_recipe = pieces("search_untuned", lambda: search([PAPER_RATES[name]], compared=False))
    rows, curves = {}, {}
    # Each piece of a long run is the seeds that run at once.
    size = len(jax.devices()) if paper else len(keys)
    slices = [slice(i, i + size) for i in range(0, len(keys), size)]
    for method, train_all in programs(setting, size).items():
        if method == UNTUNED:
            cells = np.array([(rate, s.value) for rate, s in by_recipe.items()], np.float32)
        else:
            cells = trials.cells(method, searches)
        tuned = pieces(
            f"tuning/{method}", functools.partial(tune, method, train_all, cells, tuning_keys)
        )
        chosen = np.tile(cells[tuned["chosen"]], (len(keys), 1))
        parts = [
            pieces(f"runs/{method}/{i}", functools.partial(train_all, chosen[some], keys[some]))
            for i, some in enumerate(slices)
        ]
        curves[method] = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        rows[method] = _final(curves[method]) | tuned
    accuracies = {method: runs["test_accuracy"][:, -1] for method, runs in curves.items()}
    result = {
        "methods": rows,
        "marthe": against_all("MARTHE", accuracies) | _searches(searches),
        "marthe_untuned": against_all(UNTUNED, accuracies) | _searches(by_recipe),
        "step_costs": pieces("step_costs", lambda: step_costs(setting)),
    }
    return result, curves


def _searches(searches: dict[float, HyperLearningRateSearch]) -> dict[str, list]:
    rows = [
        {"first_rate": rate, "found": search.value, "rejected": list(search.rejected)}
        for rate, search in searches.items()
    ]
    return {"search": rows}


def paired_difference(values: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """A method against another, seed by seed: a paired t test, and the 95 % interval.

    Args:
      values: accuracies, `[seeds]`.
      others: those of the other method on the same seeds.
    """
    difference = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    count, mean = len(difference), float(difference.mean())
    error = difference.std(ddof=1) / np.sqrt(count) if count > 1 else np.inf
    half = float(scipy.stats.t.ppf(0.975, count - 1) * error) if count > 1 else np.inf
    return {
        "accuracy_differences": difference.tolist(),
        "mean_difference": mean,
        "interval_95": [mean - half, mean + half] if count > 1 else None,
        "within_noise": bool(mean + half >= 0),
    }


def against_all(name: str, accuracies: dict[str, np.ndarray]) -> dict[str, Any]:
    """`paired_difference` of a method to every other one, `against`, and that to the best hand-made
    schedule at the top.
    """
    best = max(HAND, key=lambda hand: accuracies[hand].mean())
    against = {
        other: paired_difference(accuracies[name], values)
        for other, values in accuracies.items()
        if other != name
    }
    return {"best_hand_schedule": best, **against[best], "against": against}


def _final(runs: dict[str, np.ndarray]) -> dict[str, Any]:
    last = {name: runs[name][:, -1] for name in ("test_accuracy", "test_loss")}
    return {
        "accuracy": float(last["test_accuracy"].mean()),
        "accuracy_std": deviation(last["test_accuracy"]),
        "accuracies": last["test_accuracy"].tolist(),
        "test_loss": float(last["test_loss"].mean()),
        "first_rate": float(runs["rates"][:, 0].mean()),
        "last_rate": float(runs["rates"][:, -1].mean()),
        "highest_rate": float(runs["rates"].max(axis=1).mean()),
    }
