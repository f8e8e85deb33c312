"""The documentation site: `pip install '.[docs]' && sphinx-build -W docs docs/_build`.

The pages in docs/*.md are the sources, and read as they are.  What can be derived from the code (the specification, the models, the
public names, the tables of what was checked) is written by docs/_ext at every build, and not kept.
"""

import sys
from pathlib import Path

import moespec

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "moespec"
author = "the moespec developers"
project_copyright = author
version = release = moespec.__version__

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser", "sphinx_design", "sphinx.ext.mathjax", "sphinx-mathjax-offline",
    "moespec_site",
]
exclude_patterns = ["_build", "_ext"]
default_role = "code"
highlight_language = "none"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["torch", "jax", "transformers", "safetensors", "mpi4py", "matplotlib"]
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
# an operation's docstring names exactly the parameters that there are, and what is returned; every public docstring is there
numpydoc_validation_checks = {"GL08", "SS03", "PR01", "PR02", "PR03", "PR10", "RT01"}
numpydoc_validation_exclude = {r"^moespec\.(?!(gates|dispatch|experts|losses)\.)", r"\.[A-Z]\w*$", r"_(backward|steps)$"}

mathjax3_config = {"options": {"enableMenu": False}, "chtml": {"displayAlign": "left"}}

html_theme = "pydata_sphinx_theme"
html_title = "moespec"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/mark.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "moespec", "image_light": "_static/mark.svg", "image_dark": "_static/mark.svg"},
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navbar_center": ["navbar-nav"],
    "show_prev_next": False,
    "collapse_navigation": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "start": [], "site/gallery": []}
