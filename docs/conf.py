"""Sphinx: ``sphinx-build -W -b html docs docs/_build``. Nothing is fetched, not even by readers."""

import sys
from pathlib import Path

import tinygrad_rnn

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "tinygrad_rnn"
author = "The tinygrad_rnn authors"
copyright = author
version = release = tinygrad_rnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml_renderer",
    "theory",
    "reference",
    "cards",
]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_typehints = "none"  # the docstrings say what is taken, and in which shape
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "tinygrad_rnn"
html_static_path = ["_static"]
html_css_files = ["tinygrad_rnn.css"]
html_show_sphinx = False
html_copy_source = False
smartquotes_action = "D"  # dashes only: f' is a derivative
html_show_search_summary = False  # they are fetched, which no browser allows from disk
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "native"
copybutton_exclude = ".linenos, .gp, .go"
