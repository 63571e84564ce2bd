"""Arrays spread over the devices of a mesh: what is known of where one lies, and how a new one is
put beside it.

An axis that lies in parts on several devices may be split with its parts outermost, and reduced;
joined with another axis or reshaped at will, it is gathered first, and every device then holds and
computes the whole. So an update of what may be spread goes over each tensor in its own shape.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.tree_util import tree_flatten_with_path, tree_map_with_path
from jax.typing import DTypeLike


def num_devices() -> int:
    """That a traced array may lie on."""
    return jax.device_count()


def may_be_spread(arrays: Iterable[Any]) -> bool:
    """Whether one of these may lie in parts on several devices.

    A traced array tells if the axes of its mesh are explicit; else it may as soon as there are
    several devices. What `shard_map` gives is one device's own, and whole.
    """
    return any(_may_be(x) for x in arrays)


def _may_be(x: Any) -> bool:
    if not isinstance(x, jax.core.Tracer):
        sharding = getattr(x, "sharding", None)
        return sharding is not None and not sharding.is_fully_replicated
    sharding = jax.typeof(x).sharding
    kinds = set(sharding.mesh.axis_types) if not sharding.mesh.empty else set()
    if kinds and kinds <= {AxisType.Explicit, AxisType.Manual}:
        return any(part is not None for part in sharding.spec)
    return num_devices() > 1


def flattened(shape: tuple[int, ...], flat: Sequence[int]) -> tuple[int, ...]:
    """A shape with one element along the axes `flat`."""
    return tuple(1 if axis in flat else n for axis, n in enumerate(shape))


def zeros_beside(
    leaf: Any, dtype: DTypeLike, num: int | None = None, flat: Sequence[int] = ()
) -> Array:
    """Zeros `[num, *shape]` that lie as the leaf does, the axis in front whole on every device.

    Args:
      leaf: an array, traced or not, or a number.
      dtype: of the zeros.
      num: of copies; None is one, `[*shape]`.
      flat: axes of the leaf that have one element here.
    """
    front = () if num is None else (num,)
    shape = (*front, *flattened(jnp.shape(leaf), flat))
    if not isinstance(leaf, jax.core.Tracer):
        return jnp.zeros(shape, dtype, device=_lying_as(leaf, len(front), flat))
    zeros = _alike(leaf, jnp.zeros_like(leaf)).astype(dtype)
    if flat:
        zeros = jnp.sum(zeros, axis=tuple(flat), keepdims=True)
    return jnp.broadcast_to(zeros[None], shape) if front else zeros


def scalar_beside(params: Any, value: Any, dtype: DTypeLike) -> Array:
    """A new scalar that depends on the parameters, whole on every device that they lie on.

    Inside `shard_map` it is a device's own as soon as one of the parameters is.

    Args:
      params: any tree.
      value: of the scalar; may be traced.
      dtype: of the scalar.
    """
    device = None if isinstance(value, jax.core.Tracer) else _whole(params)
    scalar = jnp.array(value, dtype, copy=True, device=device)
    own = frozenset().union(*(_varies_over(leaf) for leaf in jax.tree.leaves(params)))
    new = tuple(sorted(own - _varies_over(scalar)))
    return lax.pcast(scalar, new, to="varying") if new else scalar


def zero_count(params: Any) -> Array:
    """A count of no updates, int32, the same and whole on every device
    that the parameters lie on.
    """
    return jnp.zeros((), jnp.int32, device=_whole(params))


def state_beside(state: Any, params: Any) -> Any:
    """A fresh state of another optimizer, with what mirrors a parameter where that lies, and the
    rest whole on every device unless it has a place already.

    A leaf mirrors the parameter whose path ends its own, if both have one shape. Where the compiler
    decides how arrays lie, zeros would be whole on every device, whatever they mirror.

    Args:
      state: of an Optax transformation, as its `init` gives it.
      params: that it was given.
    """
    leaves, whole = dict(tree_flatten_with_path(params)[0]), _whole(params)

    def placed(path: tuple, x: Any) -> Any:
        ends = (leaves[path[i:]] for i in range(len(path) + 1) if path[i:] in leaves)
        leaf = next((leaf for leaf in ends if jnp.shape(leaf) == jnp.shape(x)), None)
        if isinstance(x, jax.core.Tracer):
            return _alike(leaf, x) if isinstance(leaf, jax.core.Tracer) else x
        if not isinstance(x, jax.Array) or (leaf is None and x.committed):
            return x
        sharding = whole if leaf is None else _lying_as(leaf, 0)
        return x if sharding is None else jax.device_put(x, sharding)

    return tree_map_with_path(placed, state)


def split_axis(x: Array, axis: int, num: int) -> Array:
    """`[..., n, ...]` as `[..., n / num, num, ...]`: what lay on a device still does."""
    shape = (*x.shape[:axis], x.shape[axis] // num, num, *x.shape[axis + 1 :])
    spec = _explicit_spec(x)
    if spec is None:
        return x.reshape(shape)
    spec = PartitionSpec(*spec[: axis + 1], None, *spec[axis + 1 :])
    return lax.reshape(x, shape, out_sharding=NamedSharding(jax.typeof(x).sharding.mesh, spec))


def joined_axis(x: Array, axis: int) -> Array:
    """Undoes `split_axis`."""
    shape = (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])
    spec = _explicit_spec(x)
    if spec is None:
        return x.reshape(shape)
    spec = PartitionSpec(*spec[: axis + 1], *spec[axis + 2 :])
    return lax.reshape(x, shape, out_sharding=NamedSharding(jax.typeof(x).sharding.mesh, spec))


def whole(x: Array) -> Array:
    """x with all of it on every device of a mesh of explicit axes; elsewhere the compiler says."""
    if _explicit_spec(x) is None:
        return x
    return jax.sharding.reshard(x, NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec()))


def lying_as(x: Array, like: Array) -> Array:
    """x with its parts where those of `like`, of its shape, are; as `whole`."""
    return x if _explicit_spec(like) is None else jax.sharding.reshard(x, jax.typeof(like).sharding)


def _explicit_spec(x: Array) -> tuple[Any, ...] | None:
    """How a traced array lies on a mesh of explicit axes, an entry an axis; None on another."""
    sharding = jax.typeof(x).sharding
    if sharding.mesh.empty or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return (*sharding.spec, *(None,) * (x.ndim - len(sharding.spec)))


def _lying_as(leaf: Any, num_front: int, flat: Sequence[int] = ()) -> Any:
    """Where an array with axes in front lies; None is wherever JAX puts what is new."""
    sharding = getattr(leaf, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return sharding if _is_on_one(leaf) else None
    spec = (*sharding.spec, *(None,) * (leaf.ndim - len(sharding.spec)))
    parts = [None if axis in flat else part for axis, part in enumerate(spec)]
    return NamedSharding(sharding.mesh, PartitionSpec(*(None,) * num_front, *parts))


def _whole(params: Any) -> Any:
    """Where what is no part of a parameter lies; None is wherever JAX puts what is new."""
    leaves = [x for x in jax.tree.leaves(params) if not isinstance(x, jax.core.Tracer)]
    for leaf in leaves:
        if isinstance(sharding := getattr(leaf, "sharding", None), NamedSharding):
            return NamedSharding(sharding.mesh, PartitionSpec())
    return next((leaf.sharding for leaf in leaves if _is_on_one(leaf)), None)


def _varies_over(leaf: Any) -> frozenset[str]:
    """Axes of a mesh over which `shard_map` has an array differ."""
    if not isinstance(leaf, jax.core.Tracer):
        return frozenset()
    kind = jax.typeof(leaf)
    # The name before JAX 0.10.
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def _is_on_one(leaf: Any) -> bool:
    """Whether a leaf lies on a device by its user's will."""
    sharding = getattr(leaf, "sharding", None)
    return sharding is not None and len(sharding.device_set) == 1 and leaf.committed


def _alike(leaf: Array, fresh: Array) -> Array:
    """A fresh array laid out as the traced leaf, also where the compiler decides how that is."""
    sharding = jax.typeof(leaf).sharding
    kinds = set(sharding.mesh.axis_types) if not sharding.mesh.empty else set()
    if num_devices() == 1 or AxisType.Manual in kinds:
        return fresh  # XLA stops at a layout that `shard_map` has chosen in part only.
    if kinds == {AxisType.Explicit}:
        is_there = jax.typeof(fresh).sharding == sharding
        return fresh if is_there else jax.sharding.reshard(fresh, sharding)
    if fresh.ndim == 0:
        return fresh  # It lies whole, and may be a key, which is no number.
    # What is chosen of two arrays lies as they do. Behind the barrier the choice is no constant.
    is_fresh = lax.optimization_barrier(jnp.ones((), bool))
    other = leaf if jnp.iscomplexobj(fresh) or not jnp.iscomplexobj(leaf) else leaf.real
    return lax.select(is_fresh, fresh, other.astype(fresh.dtype))
