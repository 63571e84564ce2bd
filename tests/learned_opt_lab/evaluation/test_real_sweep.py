"""Tasks that people train are swept over devices along either axis: traced, not run."""

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from tasks import (
    ResNet,
    byte_transformer_family,
    class_subset_family,
    digits,
    fine_tuning_family,
    policy_gradient_family,
    skip_gram_family,
    tabular_family,
)
from tasks.images import conv_next_family, vae_family, vit_family
from tasks.language import pretrained_trunk, trunk

TRUNK = {"depth": 1, "width": 8, "length": 8}
FAMILIES = {
    "byte_transformer": lambda: byte_transformer_family(1, 8, 2, 8, 2),
    "conv_next": lambda: conv_next_family("digits", 1, 8, patch_size=2),
    "fine_tuning": lambda: fine_tuning_family("full", **TRUNK),
    "lora": lambda: fine_tuning_family("lora", **TRUNK),
    "policy_gradient": lambda: policy_gradient_family(width=8, length=10),
    "resnet": lambda: class_subset_family(digits(), ResNet(2), 10, batch_size=8),
    "skip_gram": lambda: skip_gram_family(100, 8, max_bytes=100_000),
    "tabular": lambda: tabular_family("diabetes", 8, 1),
    "vae": lambda: vae_family("digits", 2, 8),
    "vit": lambda: vit_family("digits", 1, 8, 2, 4),
}


@pytest.fixture(autouse=True)
def fresh_trunk(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path))
    start = lambda family, num_steps: family.task(()).init(jax.random.key(0))
    monkeypatch.setattr(trunk, "_train", start)
    yield
    pretrained_trunk.cache_clear()


@pytest.mark.parametrize("name", FAMILIES)
def test_along_configurations_and_along_runs(name, monkeypatch):
    assert jax.device_count() == 8
    family = FAMILIES[name]()
    # Which are for a program that is compiled.
    monkeypatch.setattr("learned_opt_lab.evaluation.sweep.compiler_options", lambda *families: None)
    sweep = make_sweep(family, optax.adam, num_steps=4, eval_every=2, num_eval_batches=2)
    for num_configurations, num_runs in ((8, 1), (1, 8)):
        rates = jnp.full(num_configurations, 1e-3)
        curves = jax.eval_shape(sweep, rates, make_runs(jax.random.key(0), num_runs))
        assert curves["test"]["loss"].shape == (num_configurations, num_runs, 3)
