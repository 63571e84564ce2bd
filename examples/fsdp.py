"""A decoder transformer of 10 million parameters, fully sharded over eight devices, with a learned
optimizer: trains on bytes, checkpoints, and goes on from there on four devices.

    python examples/fsdp.py

The line that differs from `optax.adam(1e-3)` is marked. On a machine without eight accelerators the
devices are parts of its CPU. `docs/sharding.md` tells what to expect.
"""

import functools
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import learned_opt

BYTES = np.frombuffer("\n".join(topics[name] for name in sorted(topics)).encode(), np.uint8)


def init_params(key, width, num_layers, length):
    """The layers' weights are stacked: an axis of layers leads."""
    shapes = {
        "query_key_value": (width, 3 * width),
        "attended": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    keys = jax.random.split(key, len(shapes) + 2)
    normal = lambda key, shape: jax.random.normal(key, shape) / shape[-2] ** 0.5
    layers = {
        name: normal(k, (num_layers, *shape))
        for k, (name, shape) in zip(keys[2:], shapes.items(), strict=True)
    }
    layers |= {name: jnp.ones((num_layers, width)) for name in ("scale_in", "scale_up")}
    return {
        "bytes": 0.02 * jax.random.normal(keys[0], (256, width)),
        "positions": 0.02 * jax.random.normal(keys[1], (length, width)),
        "layers": layers,
        "scale_out": jnp.ones(width),
    }


def normalized(x, scale):
    """Divided by its root mean square."""
    return scale * x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def block(x, layer, num_heads=4):
    """Causal attention and a feed-forward layer, `[batch, length, width]`."""
    heads = (*x.shape[:2], num_heads, -1)
    inputs = normalized(x, layer["scale_in"]) @ layer["query_key_value"]
    query, key, value = (part.reshape(heads) for part in jnp.split(inputs, 3, axis=-1))
    attended = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    x = x + attended.reshape(x.shape) @ layer["attended"]
    hidden = jax.nn.gelu(normalized(x, layer["scale_up"]) @ layer["up"])
    return x + hidden @ layer["down"], None


def loss_fn(params, batch):
    """Cross-entropy of the next byte, in nats; `batch` is `[windows, length + 1]`."""
    x = params["bytes"][batch[:, :-1]] + params["positions"]
    x, _ = jax.lax.scan(block, x, params["layers"])
    logits = normalized(x, params["scale_out"]) @ params["bytes"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


def fully_sharded(mesh, params):
    """Each parameter in parts along its longest axis that the devices divide."""

    def sharding(leaf):
        axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
        axis = max(axes, key=lambda i: leaf.shape[i], default=None)
        return NamedSharding(
            mesh, PartitionSpec(*("data" if i == axis else None for i in range(leaf.ndim)))
        )

    return jax.tree.map(sharding, params)


def bytes_a_device(tree):
    """On the device that has most."""
    held = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values())


class Training:
    """Parameters and optimizer state on the first devices, and a step on the same windows of text
    whatever their number.
    """

    def __init__(self, num_devices, init):
        devices = jax.devices()[:num_devices]
        self.mesh = jax.make_mesh(
            (num_devices,), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        self.shardings = fully_sharded(self.mesh, jax.eval_shape(init))
        self.params = jax.jit(init, out_shardings=self.shardings)()
        self.optimizer = learned_opt.load(stacked="layers")  # <- instead of optax.adam(1e-3)
        # Each average lies as its parameter does.
        self.opt_state = jax.jit(self.optimizer.init)(self.params)
        self.train_step = jax.jit(self._train_step, donate_argnums=(0, 1))

    def _train_step(self, params, opt_state, batch):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        grads = jax.lax.with_sharding_constraint(grads, self.shardings)
        updates, opt_state = self.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    def run(self, steps, length):
        """The losses of these steps."""
        losses = []
        for step in steps:
            starts = np.random.default_rng(step).integers(len(BYTES) - length, size=8)
            windows = BYTES[starts[:, None] + np.arange(length + 1)].astype(np.int32)
            batch = jax.device_put(windows, NamedSharding(self.mesh, PartitionSpec("data")))
            self.params, self.opt_state, loss = self.train_step(self.params, self.opt_state, batch)
            losses.append(float(loss))
        return losses

    def report(self):
        """Prints, and returns, how much of parameters and state a device holds."""
        held = []
        for name, tree in (("parameters", self.params), ("state", self.opt_state)):
            total = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
            held.append(bytes_a_device(tree) / total)
            print(
                f"{name:10s}  {total / 1e6:8.2f} MB, {held[-1] * total / 1e6:7.2f} MB on each of "
                f"{self.mesh.size} devices"
            )
        return held


def main(
    width: int = 384, num_layers: int = 6, length: int = 64, num_steps: int = 20, folder=None
) -> tuple[list[float], list[float], list[list[float]]]:
    """Trains on eight devices, restores on four, prints.

    Returns:
      The losses on eight devices, twice `num_steps`; those on four, of the second half; the shares
      that a device holds.
    """
    init = functools.partial(init_params, jax.random.key(0), width, num_layers, length)
    eight = Training(8, init)
    print(f"{sum(x.size for x in jax.tree.leaves(eight.params)) / 1e6:.2f} million parameters")
    held, losses = [eight.report()], eight.run(range(num_steps), length)
    with (
        tempfile.TemporaryDirectory() as temporary,
        ocp.StandardCheckpointer() as checkpointer,
    ):
        path = Path(folder or temporary).resolve() / "checkpoint"
        checkpointer.save(path, {"params": eight.params, "opt_state": eight.opt_state})
        checkpointer.wait_until_finished()
        losses += eight.run(range(num_steps, 2 * num_steps), length)
        four = Training(4, init)
        target = {"params": four.params, "opt_state": four.opt_state}
        restored = checkpointer.restore(path, target)
    four.params, four.opt_state = restored["params"], restored["opt_state"]
    held.append(four.report())
    again = four.run(range(num_steps, 2 * num_steps), length)
    print("step  loss on 8  on 4, restored")
    for step, loss in enumerate(losses):
        if step in (0, num_steps - 1, num_steps, 2 * num_steps - 1):
            other = f"{again[step - num_steps]:8.4f}" if step >= num_steps else ""
            print(f"{step + 1:4d}  {loss:9.4f}  {other}")
    return losses, again, held


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)  # no effect on accelerators
    main()
