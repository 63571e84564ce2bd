"""Tasks with and without model state, seen as one kind: what unrolls and evaluations train."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from tasks.base import (
    Batch,
    Data,
    Key,
    Metrics,
    ModelState,
    Params,
    StatefulTask,
    Task,
    TaskFamily,
)


def as_stateful(task: Task | StatefulTask) -> StatefulTask:
    """The task as one with a model state, which is `()` if it has none.

    Of a `Task` this makes the very programs that it makes by itself, since its state holds no
    array. What a `StatefulTask` returns is checked when it is traced.

    Raises:
      ValueError: when traced, for a state whose structure, shapes or types a step changes, or for a
        return value that is not of a `StatefulTask`'s form.
    """
    return _checked(task) if isinstance(task, StatefulTask) else _without_state(task)


def check_model_state(family: TaskFamily) -> None:
    """Refuses a family whose tasks do not keep their model state, before anything is compiled.

    A step and an evaluation of a stateful task are traced, of another task nothing is.

    Raises:
      ValueError: as `as_stateful`.
    """

    def step(key: Key, data: Data) -> Array:
        task = as_stateful(family.task(family.sample(key)))
        params, model_state = task.init(key)
        batch = task.sample_batch(data, key, "train")
        loss, (model_state, _) = task.loss(params, model_state, key, batch)
        return loss + task.eval_loss(params, model_state, key, batch)[0]

    def is_stateful(key: Key) -> None:
        kinds.append(isinstance(family.task(family.sample(key)), StatefulTask))

    kinds: list[bool] = []
    jax.eval_shape(is_stateful, jax.random.key(0))
    if any(kinds):
        jax.eval_shape(step, jax.random.key(0), family.data)


def _without_state(task: Task) -> StatefulTask:
    def init(key: Key) -> tuple[Params, ModelState]:
        return task.init(key), ()

    def loss(
        params: Params, model_state: ModelState, key: Key, batch: Batch
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        value, metrics = task.loss(params, key, batch)
        return value, (model_state, metrics)

    def eval_loss(
        params: Params, model_state: ModelState, key: Key, batch: Batch
    ) -> tuple[Array, Metrics]:
        del model_state
        return task.loss(params, key, batch)

    return StatefulTask(init, loss, eval_loss, task.sample_batch)


def _checked(task: StatefulTask) -> StatefulTask:
    def init(key: Key) -> tuple[Params, ModelState]:
        found = task.init(key)
        params, model_state = _pair(found, "init", "(params, model_state)", found)
        return params, _as_arrays(model_state)

    def loss(
        params: Params, model_state: ModelState, key: Key, batch: Batch
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        form, model_state = "(loss, (model_state, metrics))", _as_arrays(model_state)
        found = task.loss(params, model_state, key, batch)
        value, beside = _pair(found, "loss", form, found)
        new_state, metrics = _pair(beside, "loss", form, found)
        new_state = _as_arrays(new_state)
        _check_kept(model_state, new_state)
        return _scalar(value, "loss"), (new_state, metrics)

    def eval_loss(
        params: Params, model_state: ModelState, key: Key, batch: Batch
    ) -> tuple[Array, Metrics]:
        found = task.eval_loss(params, model_state, key, batch)
        value, metrics = _pair(found, "eval_loss", "(loss, metrics)", found)
        return _scalar(value, "eval_loss"), metrics

    return StatefulTask(init, loss, eval_loss, task.sample_batch)


def _pair(part: Any, name: str, form: str, whole: Any) -> tuple[Any, Any]:
    # A dict of two metrics would unpack as well.
    if not isinstance(part, tuple) or len(part) != 2:
        kinds = jax.tree.map(_kind, whole)
        raise ValueError(f"{name} of a stateful task must return {form}, got {kinds}")
    return part


def _scalar(value: Any, name: str) -> Array:
    if jnp.shape(value):
        raise ValueError(
            f"{name} of a stateful task must return one number first, got shape {jnp.shape(value)}"
        )
    return value


def _as_arrays(model_state: ModelState) -> ModelState:
    """The state's leaves as arrays that keep their type whatever is added to them."""

    def array(path: Any, leaf: Any) -> Array:
        try:
            leaf = jnp.asarray(leaf)
        except TypeError as error:
            name = f"model_state{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name} must be an array, got {leaf!r:.80}") from error
        is_weak = getattr(leaf, "weak_type", False)
        return lax.convert_element_type(leaf, leaf.dtype) if is_weak else leaf

    return jax.tree_util.tree_map_with_path(array, model_state)


def _check_kept(before: ModelState, after: ModelState) -> None:
    old, new = _kinds(before), _kinds(after)
    for name in [*old, *(new.keys() - old.keys())]:
        if old.get(name) != new.get(name):
            raise ValueError(
                "a training step must keep the structure, shapes and types of its model state; "
                f"model_state{name} was {old.get(name, 'not there')} and came back as "
                f"{new.get(name, 'nothing')}"
            )
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise ValueError(
            "a training step must keep the structure, shapes and types of its model state; it made "
            f"{jax.tree.structure(after)} of {jax.tree.structure(before)}"
        )


def _kinds(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _kind(leaf) for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else type(leaf).__name__
