"""Sphinx's settings. Build with `sphinx-build -W -b html docs docs/_build/html`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]  # so that a checkout builds before it is installed

project = "smtpstate"
author = "The smtpstate authors"
copyright = "2026, The smtpstate authors"  # the name is Sphinx's

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build", "changes"]  # changes/ holds what the next release's changelog is made of

html_theme = "furo"
html_title = "smtpstate"

myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]  # one spelling for this site and for whoever shows Markdown as it is

autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True  # Limits' defaults read as they were written
default_role = "code"  # docstrings put names in single backticks, as Markdown does
