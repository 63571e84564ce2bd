"""Summaries of modules and functions from their source: nothing is imported for them."""

import ast

from learned_opt_lab.cli.completion import folder_of


def summary(doc: str | None) -> str:
    """The summary of a docstring on one line; none where Python left it out (`python -OO`)."""
    return " ".join((doc or "").strip().partition("\n\n")[0].split())


def summary_of(module: str) -> str:
    """The summary of a module of this project, by its name."""
    package, *inner = module.split(".")
    path = folder_of(package).joinpath(*inner)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return summary(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
