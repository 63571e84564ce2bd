"""The per-parameter MLP whose steps are orthogonal for matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.orthogonal._orthogonal_mlp import LOG_RATE_UNIT
from learned_opt.orthogonal.orthogonal_step import orthogonal_step
from tests.support.learned_opt.polar import ERROR

PARAMS = {
    "embed": {"embedding": jax.random.normal(jax.random.key(0), (7, 6))},
    "layer": {"kernel": jax.random.normal(jax.random.key(1), (6, 8)), "bias": jnp.ones(8)},
    "head": {"kernel": jax.random.normal(jax.random.key(2), (8, 3))},
}
OPTIMIZER = learned_opt.orthogonal_mlp()
THETA = OPTIMIZER.init(jax.random.key(0))


def learned(seed=3):
    """A theta in which everything counts."""
    leaves, treedef = jax.tree.flatten(THETA)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(treedef, moved)


def silent(theta):
    """A fresh theta without what its other hidden units add at random."""
    quiet = dict(theta)
    for name in ("matrix", "other"):
        last = theta[name]["layer_1"]
        weights = last["weights"].at[2:].set(0.0).at[:2, 1].set(0.0)
        quiet[name] = theta[name] | {"layer_1": last | {"weights": weights}}
    return quiet


def gradients(step, params=PARAMS):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(9), step), 4)
    leaves, treedef = jax.tree.flatten(params)
    noise = [jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(treedef, noise)


def trained(opt, num_steps=4, scale=1.0, params=PARAMS, grads=gradients):
    state = opt.init(params)
    for step in range(num_steps):
        g = jax.tree.map(lambda x: scale * x, grads(step))
        updates, state = opt.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_a_fresh_step_is_that_of_adams_direction():
    opt, g = OPTIMIZER.optimizer(silent(THETA)), gradients(0)
    updates, _ = opt.update(g, opt.init(PARAMS), PARAMS)
    # Adam's first direction is the sign.
    kernel = -0.1 * orthogonal_step(jnp.sign(g["layer"]["kernel"]))
    np.testing.assert_allclose(updates["layer"]["kernel"], kernel, rtol=5e-3, atol=1e-4)
    bias = -0.01 * jnp.sign(g["layer"]["bias"])
    np.testing.assert_allclose(updates["layer"]["bias"], bias, rtol=2e-3)
    assert sum(x.size for x in jax.tree.leaves(THETA)) == 404


def test_a_direction_that_is_not_learned():
    fresh = trained(OPTIMIZER.optimizer(silent(THETA)))
    adam = learned_opt.orthogonal_mlp(direction="adam")
    theta = adam.init(jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(theta)) == 16
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    for make in (adam.optimizer, adam.packed):
        end = trained(make(theta))
        jax.tree.map(close, end, fresh)


def test_momentum_steps_are_as_long_as_the_rate():
    muon = learned_opt.orthogonal_mlp(direction="momentum")
    opt = muon.optimizer(muon.init(jax.random.key(0)))
    updates, _ = opt.update(gradients(0), opt.init(PARAMS), PARAMS)
    rms = jax.tree.map(lambda x: float(jnp.sqrt(jnp.mean(x * x))), updates)
    for of_tensor in (rms["embed"]["embedding"], rms["head"]["kernel"], rms["layer"]["bias"]):
        assert of_tensor == pytest.approx(0.01, rel=1e-3)
    values = np.linalg.svd(np.asarray(updates["layer"]["kernel"]), compute_uv=False)
    assert values.max() / values.min() < (1 + ERROR) / (1 - ERROR)


def test_steps_that_are_not_orthogonal():
    theta, g = learned(), gradients(0)
    plain = learned_opt.orthogonal_mlp(orthogonal=False)
    ends = []
    for optimizer in (OPTIMIZER, plain):
        opt = optimizer.optimizer(theta)
        ends.append(opt.update(g, opt.init(PARAMS), PARAMS)[0])
    orthogonal = orthogonal_step(ends[1]["layer"].pop("kernel"))
    np.testing.assert_allclose(ends[0]["layer"].pop("kernel"), orthogonal, rtol=1e-4, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_both_layouts_agree():
    theta = learned()
    for num_steps in (None, 10):
        ends = [
            trained(make(theta, num_steps=num_steps))
            for make in (OPTIMIZER.optimizer, OPTIMIZER.packed)
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *ends)


@pytest.mark.parametrize("scale", [1e-10, 1e6])
def test_the_unit_of_the_loss_does_not_count(scale):
    ends = [trained(OPTIMIZER.optimizer(learned()), scale=s) for s in (1.0, scale)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *ends)


def test_rates_are_of_kinds_and_matrices_step_in_all_directions_alike():
    theta = learned()
    factors = jnp.log(jnp.array([1.0, 2.0, 3.0, 4.0])) / LOG_RATE_UNIT
    louder = theta | {"log_rates": theta["log_rates"] + factors}
    one, other = (
        opt.update(gradients(0), opt.init(PARAMS), PARAMS)[0]
        for opt in map(OPTIMIZER.optimizer, (theta, louder))
    )
    ratios = jax.tree.map(lambda a, b: float(jnp.median(b / a)), one, other)
    assert ratios["embed"]["embedding"] == pytest.approx(2.0, rel=1e-3)
    assert ratios["head"]["kernel"] == pytest.approx(3.0, rel=1e-3)
    assert ratios["layer"]["bias"] == pytest.approx(4.0, rel=1e-3)
    values = np.linalg.svd(np.asarray(one["layer"]["kernel"]), compute_uv=False)
    assert values.max() / values.min() < (1 + ERROR) / (1 - ERROR)


def test_no_gradient_no_step():
    def grads(step):
        g = gradients(step)
        g["embed"]["embedding"] = g["embed"]["embedding"].at[2:5].set(0.0)
        g["layer"]["kernel"] = g["layer"]["kernel"].at[1, 2].set(0.0)
        g["head"]["kernel"] = jnp.zeros_like(g["head"]["kernel"])
        return g

    end = trained(OPTIMIZER.optimizer(learned(), num_steps=9), grads=grads)
    same = lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    same(end["embed"]["embedding"][2:5], PARAMS["embed"]["embedding"][2:5])
    same(end["layer"]["kernel"][1, 2], PARAMS["layer"]["kernel"][1, 2])
    same(end["head"]["kernel"], PARAMS["head"]["kernel"])
    assert np.all(np.asarray(end["layer"]["kernel"][1, 3] != PARAMS["layer"]["kernel"][1, 3]))


def test_the_share_of_the_training():
    theta = learned()
    opt = OPTIMIZER.optimizer(theta, num_steps=4)
    state, norms, params = opt.init(PARAMS), [], PARAMS
    for _ in range(6):
        updates, state = opt.update(gradients(0), state, params)
        norms.append(float(optax.tree.norm(updates)))
    assert max(norms[4:]) < 1e-6 * norms[0]
    assert all(np.isfinite(norms))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        OPTIMIZER.optimizer(theta, num_steps=0)
    with pytest.raises(ValueError, match="has no choice of num_steps"):
        learned_opt.load("mlp", num_steps=10)


def test_layers_in_one_tensor_are_updated_as_layers_apart():
    stacked = {"blocks": {"kernel": jax.random.normal(jax.random.key(0), (3, 6, 8))}}
    apart = {f"block_{i}": {"kernel": stacked["blocks"]["kernel"][i]} for i in range(3)}
    opt = OPTIMIZER.optimizer(learned(), stacked="blocks")
    single = OPTIMIZER.optimizer(learned())
    g = jax.random.normal(jax.random.key(4), (3, 6, 8))
    one, _ = opt.update({"blocks": {"kernel": g}}, opt.init(stacked), stacked)
    g_apart = {f"block_{i}": {"kernel": g[i]} for i in range(3)}
    each, _ = single.update(g_apart, single.init(apart), apart)
    joined = jnp.stack([each[f"block_{i}"]["kernel"] for i in range(3)])
    np.testing.assert_allclose(one["blocks"]["kernel"], joined, rtol=1e-4, atol=1e-6)


def test_saved_and_loaded(tmp_path):
    learned_opt.save(tmp_path / "unit", "orthogonal_mlp", {}, learned())
    opt = learned_opt.load(tmp_path / "unit", num_steps=10)
    ends = [trained(opt), trained(OPTIMIZER.optimizer(learned(), num_steps=10))]
    jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"features": ("gradient",)}, "features: got 'gradient'"),
        ({"features": ()}, "features"),
        ({"features": ("parameter",)}, "features"),
        ({"hidden_sizes": ()}, "hidden_sizes: got none"),
        ({"hidden_sizes": (1,)}, "hidden_sizes: got 1"),
        ({"momentum_decays": (1.0,)}, r"momentum_decays must lie in \[0, 1\), .*got 1.0"),
        ({"rates": (1.0, 1.0)}, "rates"),
        ({"direction": "sign"}, "direction: got 'sign', allowed are learned, adam, momentum"),
        ({"rates": (1.0, 1.0, 0.0, 1.0)}, "rates"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        learned_opt.orthogonal_mlp(**arguments)


def test_matrices_without_elements_are_left_alone():
    params = {"a": (0, 4), "b": (4, 0), "conv": (3, 3, 0, 4), "w": (3, 4)}
    params = {name: jnp.ones(shape) for name, shape in params.items()}
    opt = OPTIMIZER.optimizer(learned())
    updates, _ = jax.jit(opt.update)(params, opt.init(params), params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    w = {"w": params["w"]}
    alone, _ = jax.jit(opt.update)(w, opt.init(w), w)
    np.testing.assert_allclose(updates["w"], alone["w"], rtol=1e-6)
