"""Families of one run may have episodes of different lengths, and optimizers are told theirs."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from configs import base, quadratic
from learned_opt import LearnedOptimizer
from learned_opt_lab.runs import build
from learned_opt_lab.runs.families import build_family

CONFIG = dataclasses.replace(
    quadratic.config,
    family=base.RandomQuadratic(dim=2),
    extra_families=(base.RandomQuadratic(dim=2, num_steps=3),),
    problem=dataclasses.replace(quadratic.config.problem, num_steps=8),
    truncation=base.Constant(num_steps=8),
    estimator=base.FullES(num_pairs=2),
)


def told(lengths: list[int]) -> LearnedOptimizer:
    """SGD that notes how long its trainings are."""

    def optimizer(theta, *, num_steps):
        lengths.append(num_steps)
        return optax.sgd(theta)

    return LearnedOptimizer(lambda key: jnp.float32(0.1), optimizer)


def test_each_family_has_its_own_length_or_the_problem_s():
    families = [build_family(each)[0] for each in (CONFIG.family, *CONFIG.extra_families)]
    lengths: list[int] = []
    problems = [build.build_problem(CONFIG, family, told(lengths)) for family in families]
    assert [problem.num_steps for problem in problems] == [8, 3]
    for problem in problems:
        jax.eval_shape(problem.init, jnp.float32(0.1), jax.random.key(0))
    assert lengths == [8, 3]


def test_whole_episodes_of_both_are_unrolled():
    built = build.build(CONFIG, num_devices=1)
    state = built.step.init(built.theta, built.key)
    _, metrics = built.step.step(state, built.key, built.datas)
    assert float(metrics["num_live_inner_steps"]) == 2 * 2 * (8 + 3)  # both sides of two pairs
