"""What the site needs beside Sphinx's own extensions.

`command-help` shows what a command answers to `--help-all`; `config-fields` makes a table of a
config class's fields, from the strings below them. Both are read from the code. Formulas become
MathML.
"""

import inspect
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from from_code import help_of, rows, to_rst
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def as_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Rewrites a docstring in place."""
    lines[:] = to_rst("\n".join(lines)).split("\n")


def without_tuple_fields(app, what, name, obj, skip: bool, options) -> bool | None:
    """Leaves out "Alias for field number 0": the class's docstring tells of fields."""
    return True if type(obj).__name__ == "_tuplegetter" else None


class CommandHelp(SphinxDirective):
    """`{command-help} train quickstart`."""

    optional_arguments: ClassVar[int] = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """One literal block."""
        text = help_of(self.arguments[0].split() if self.arguments else [])
        return [nodes.literal_block(text, text, language="text")]


class ConfigFields(SphinxDirective):
    """`{config-fields} PersistentES`: a class of `configs.base`."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """The class's sentence, how it is chosen, and the table."""
        from configs import base

        cls = getattr(base, self.arguments[0])
        lines = [f"```{{py:class}} configs.base.{cls.__name__}", "```", ""]
        lines += [inspect.getdoc(cls) or "", ""]
        if hasattr(cls, "word"):
            lines += [f"On the command line: `{cls.word}`.", ""]
        table = list(rows(cls))
        if table:
            lines += ["| field | default | what it is |", "|---|---|---|"]
            lines += [
                f"| `{name}` | `{default}` | {text.replace('|', chr(92) + '|')} |"
                for name, default, text in table
            ]
        container = nodes.container()
        text = "\n".join(lines).splitlines()
        self.state.nested_parse(StringList(text, source=cls.__name__), 0, container)
        return container.children


def visit_inline_math(translator: Any, node: nodes.math) -> None:
    """A formula as MathML, which browsers show by themselves: no script, and no network."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_block_math(translator: Any, node: nodes.math_block) -> None:
    """The same on a line of its own."""
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers all of it."""
    app.add_directive("command-help", CommandHelp)
    app.add_directive("config-fields", ConfigFields)
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_block_math, None))
    app.connect("autodoc-process-docstring", as_code, priority=400)
    app.connect("autodoc-skip-member", without_tuple_fields)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
