"""How the site is built: `make docs`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
# Tutorials run as their readers would: compiled in full, with this environment's commands.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

project = "learned-opt"
author = "The authors of learned-opt"
copyright = "the authors of learned-opt, Apache-2.0"
version = release = "0.1.0"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "house",
]
exclude_patterns = ["_extensions", "package.md", "**.ipynb_checkpoints"]

# Pages are MyST Markdown.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Tutorials run from their first cell to their last; an error in one ends the build.
nb_execution_mode = os.environ.get("DOCS_EXECUTE", "cache")
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# Other projects' inventories are on the network, so they are asked only where it may be used.
ONLINE = {
    "flax": ("https://flax.readthedocs.io/en/latest/", None),
    "jax": ("https://docs.jax.dev/en/latest/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "optax": ("https://optax.readthedocs.io/en/latest/", None),
    "python": ("https://docs.python.org/3", None),
}
intersphinx_mapping = ONLINE if os.environ.get("DOCS_ONLINE") else {}
intersphinx_timeout = 20

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_title = "learned-opt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
}
