"""Settings of the documentation site: `make docs` builds docs/ into build/docs."""

import re
from typing import Any

import lxmert

project = "lxmert"
author = "the lxmert maintainers"
version = release = lxmert.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["demo"]  # of `make demo`
html_theme = "furo"
html_title = f"lxmert {version}"
html_static_path: list[str] = []
templates_path: list[str] = []
html_copy_source = False

# Docstrings are in Google style, with names in single backticks as in Markdown.
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_rtype = False

myst_heading_anchors = 4

OUTSIDE = {
    "../src/lxmert/default/README.md": "model-card.md",
    "../src/lxmert/drawings/README.md": "drawings-card.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
}
"""Pages outside of docs/ -> the page of the site that includes them."""


def link_within_site(app: Any, name: str, source: list[str]) -> None:
    """Replace links to pages outside of docs/ by links to the pages that include them."""
    del app, name
    for outside, page in OUTSIDE.items():
        source[0] = re.sub(rf"\]\({re.escape(outside)}(?=[)#])", f"]({page}", source[0])


def setup(app: Any) -> None:
    """Register the replacement of links."""
    app.connect("source-read", link_within_site)
