"""Templates of pages that are one file: everything is escaped by the template engine,
after `learned_opt_lab.drawing.text.plain`, but what a page marks as its own.

What all pages share is beside this module: `page.css`, `page.js`, and `head.html` and `end.html`,
which a page includes.
"""

from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from learned_opt_lab.drawing.text import UNKNOWN, format_number, plain


def page_template(package: str, **shared: Any) -> jinja2.Template:
    """`page.html` of a package, which is given `css`, `js`, `unknown` and `format_number`.

    Args:
      package: holds `page.html` and `page.js`, which follows the script that pages share.
      shared: further values that the template may use.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: _resource(package if name == "page.html" else __package__, name)
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
    )
    scripts = _resource(__package__, "page.js") + _resource(package, "page.js")
    own = {
        "css": Markup(_resource(__package__, "page.css")),
        "js": Markup(scripts),
        "unknown": UNKNOWN,
        "format_number": format_number,
    }
    return environment.get_template("page.html", globals=own | shared)


def _resource(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
