"""The thetas that an ablation trained, as files that `evaluate`, `variance` and `load` take."""

from pathlib import Path

import jax
import numpy as np

import learned_opt
from learned_opt_lab.ablation.runs import Cell, Variant


def save_thetas(
    out: Path, variants: list[Variant], cells: dict[str, dict[int, Cell]]
) -> dict[str, list[Path]]:
    """Writes `thetas/<variant>/<seed>.npz`, after the last outer step; variant -> its files."""
    return {
        variant.name: [
            _save(out / "thetas" / variant.name / f"{seed}.npz", variant, cell)
            for seed, cell in cells[variant.name].items()
        ]
        for variant in variants
    }


def _save(path: Path, variant: Variant, cell: Cell) -> Path:
    shapes = jax.eval_shape(variant.optimizer.init, jax.random.key(0))
    paths, structure = jax.tree.flatten_with_path(shapes)
    names = [jax.tree_util.keystr(each, simple=True, separator="/") for each, _ in paths]
    theta = jax.tree.unflatten(structure, [np.asarray(cell[f"theta/{name}"]) for name in names])
    name, kwargs = variant.saved_as
    path.parent.mkdir(parents=True, exist_ok=True)
    return learned_opt.save(path, name, kwargs, theta)
