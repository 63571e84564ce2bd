"""Learned optimizers outer-trained for figures 5 to 7 of arXiv 1810.10180,
and the one of several seeds that is shown.

Several seeds on each objective, side by side; the optimizer that is shown is the one with the
lowest outer-training loss, its own objective on the outer-training family. No held-out loss has a
part in that choice.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from numpy.typing import NDArray

from learned_opt_lab.evaluation.held_out import LOSS_CAP
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.metz2019.outer_trained_evaluation import evaluator
from learned_opt_lab.papers.metz2019.outer_trained_setup import (
    OBJECTIVES,
    OWN_SPLIT,
    Config,
    Families,
    learned_optimizer,
    picking_key,
    run_of,
)
from learned_opt_lab.results.resumable import Cells
from learned_opt_lab.runs.build import (
    build_estimator,
    build_outer_optimizer,
    build_problem,
    build_truncation,
)
from outer_train import (
    PARTICLES,
    OuterStep,
    SeedsResult,
    clip_by_global_norm,
    estimators,
    inner_problem,
    memory,
    outer_step_of_seeds,
    particle_mesh,
    train_seeds,
    truncation,
)
from tasks import TaskFamily

MOST_BYTES = 70 * 10**9
"""Of one device, whatever it has."""
SHARE_OF_KEPT = 0.45
"""Of a device's memory that may hold kept states. At the paper's scale they are 28 GB a seed, and a
step takes 57 GB a seed and 114 GB for two, by XLA's figures for one CPU device."""


class OuterTraining(NamedTuple):
    """Outer-training on one objective, ready for any seeds.

    Attributes:
      step: `seeds -> the outer step of all of them`.
      thetas: `seeds -> fresh thetas`, leaves `[seeds, ...]`.
      key: of the run.
      seeds_at_once: whose kept states fit.
    """

    step: Callable[[Sequence[int]], OuterStep]
    thetas: Callable[[Sequence[int]], Any]
    key: jax.Array
    seeds_at_once: int


def outer_training(
    config: Config,
    family: TaskFamily,
    objective: str,
    outer_optimizer: optax.GradientTransformation | None = None,
) -> OuterTraining:
    """Builds the outer-training of a resolved config; arguments as in `outer_train`."""
    optimizer, run = learned_optimizer(config), run_of(config, objective)
    if run is None:
        schedule = truncation.constant(min(20, config.num_steps))
        problem = inner_problem(
            family, optimizer, config.num_steps, OBJECTIVES[objective], loss_clip=LOSS_CAP
        )
        longest, chunk_size = min(schedule.max_num_steps, config.num_steps), None
        estimator = estimators.persistent_es(
            problem, config.num_pairs, 0.01, PARTICLES, max_num_steps=longest, stagger=True
        )
    else:
        schedule = build_truncation(run)
        problem = build_problem(run, family, optimizer)
        longest, chunk_size = schedule.max_num_steps, run.estimator.chunk_size
        estimator = build_estimator(run, family, optimizer, schedule, axis_name=PARTICLES)
    mesh = particle_mesh(config.num_pairs)
    key_theta, key_run = jax.random.split(jax.random.key(config.seed))
    outer_optimizer = outer_optimizer or default_outer_optimizer(config)

    def thetas(seeds: Sequence[int]) -> Any:
        numbers = np.asarray(seeds, np.int32)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key_theta, numbers)
        return jax.vmap(optimizer.init)(keys)

    theta = jax.eval_shape(optimizer.init, key_theta)
    kept = memory.kept_state_bytes(problem, theta) * 2 * config.num_pairs
    # Without backpropagation the present state is all that is kept.
    kept *= memory.num_kept_states(min(longest, config.num_steps), chunk_size) if chunk_size else 1
    make_step = functools.partial(
        outer_step_of_seeds, [estimator], outer_optimizer, schedule, mesh, families=(family,)
    )
    return OuterTraining(
        make_step,
        thetas,
        key_run,
        seeds_at_once(kept, mesh),
    )


def outer_train(
    config: Config,
    family: TaskFamily,
    objective: str,
    cells: Cells,
    outer_optimizer: optax.GradientTransformation | None = None,
    num_seeds: int | None = None,
) -> SeedsResult:
    """Outer-trains all seeds on one objective, as many at once as their kept states fit for.

    What a seed draws follows from its own number, so the groups change nothing but the memory.
    Each is a piece, which keeps checkpoints while it is made.

    Args:
      config: resolved.
      family: the tasks.
      objective: a key of `OBJECTIVES`.
      cells: of this objective and outer optimizer.
      outer_optimizer: the scale's own if None.
      num_seeds: the config's if None.
    """
    training = outer_training(config, family, objective, outer_optimizer)

    def together(seeds: Sequence[int]) -> SeedsResult:
        name = f"seeds_{seeds[0]}_to_{seeds[-1]}"

        def make() -> SeedsResult:
            step = training.step(seeds)
            return train_seeds(
                step,
                jax.device_get(training.thetas(seeds)),
                training.key,
                step.place_data((family.data,)),
                config.num_outer_steps,
                config.num_points,
                checkpoint=cells.checkpoints(name) / "state.npz",
            )

        return cells(name, make)

    seeds, size = range(num_seeds or config.num_seeds), training.seeds_at_once
    return joined([together(seeds[i : i + size]) for i in range(0, len(seeds), size)])


def seeds_at_once(kept: int, mesh: Mesh) -> int:
    """Seeds whose kept states fit; one at least.

    Args:
      kept: bytes of the states that one seed keeps, on all devices.
      mesh: over the particles.
    """
    devices = mesh.devices.flatten().tolist()
    available = memory.available_bytes(devices)
    allowed = MOST_BYTES if available is None else min(MOST_BYTES, available)
    each = kept if devices[0].platform == "cpu" else kept // len(devices)
    return max(int(SHARE_OF_KEPT * allowed) // each, 1)


def joined(groups: Sequence[SeedsResult]) -> SeedsResult:
    """The seeds of all groups, which ran one after the other, as if at once."""
    first, *others = groups
    if not others:
        return first
    beside = lambda *arrays: np.concatenate(arrays, axis=1)
    return SeedsResult(
        thetas=jax.tree.map(beside, *(group.thetas for group in groups)),
        points=first.points,
        outer_loss=beside(*(group.outer_loss for group in groups)),
        inner_steps=beside(*(group.inner_steps for group in groups)),
        seconds=sum(group.seconds for group in groups),
    )


def default_outer_optimizer(config: Config) -> optax.GradientTransformation:
    """That of the scale's run; at the default scale a clip by norm and a half cosine."""
    if run := run_of(config):
        return build_outer_optimizer(run.outer_optimizer, run.num_outer_steps)
    schedule = optax.cosine_decay_schedule(config.outer_learning_rate, config.num_outer_steps, 0.1)
    return optax.chain(clip_by_global_norm(1.0), optax.adam(schedule))


def own_losses(losses: dict[str, NDArray], objective: str) -> NDArray:
    """Mean over episode and tasks of what was descended, `[n]`:
    the outer-training loss that seeds are chosen by.
    """
    return losses[OWN_SPLIT[objective]][..., 1:].mean(axis=(-2, -1))


class Picked(NamedTuple):
    """The seeds of one objective, and the one that is shown.

    Attributes:
      thetas: after outer-training, leaves `[seeds, ...]`.
      outer_losses: `[seeds]`, see `own_losses`.
      index: of the lowest.
    """

    thetas: Any
    outer_losses: NDArray
    index: int

    @property
    def theta(self) -> Any:
        """The one that is shown, leaves `[1, ...]`."""
        return jax.tree.map(lambda leaf: leaf[self.index : self.index + 1], self.thetas)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "picked_by": "outer_loss",
            "picked_seed": self.index,
            "outer_loss": self.outer_losses.tolist(),
        }


def outer_train_and_pick(config: Config, made: Families, cells: Cells) -> dict[str, Picked]:
    """Outer-trains the seeds on each objective, and picks by the outer-training loss."""
    on_outer_train = evaluator(
        made.outer_train, picking_key(config), config.num_tasks, config.num_steps
    )
    run = on_outer_train.learned(config)
    picked = {}
    for objective in OBJECTIVES:
        of_objective = cells.within(f"outer_training/{objective}")
        trained = outer_train(config, made.outer_train, objective, of_objective)
        thetas = jax.tree.map(lambda leaf: leaf[-1], trained.thetas)
        losses = own_losses(of_objective("picking", lambda thetas=thetas: run(thetas)), objective)
        picked[objective] = Picked(thetas, losses, lowest_known(losses, "outer loss of a seed"))
    return picked
