"""How sphinx builds the site of these pages: `make docs`. What is our own about it is in `_ext`."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]
os.environ.setdefault("FACEGEN_OFFLINE", "1")  # a build downloads nothing

import facegen  # noqa: E402

project = "facegen"
author = "the authors of facegen"
project_copyright = "the authors of facegen, Apache License 2.0"
version = release = facegen.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "facegen_site"]
exclude_patterns = ["_ext"]

# --- Markdown -------------------------------------------------------------------------------------------------------
myst_heading_anchors = 4  # the anchors that GitHub gives to headings
myst_enable_extensions = ["attrs_inline"]
highlight_language = "text"
smartquotes = False  # `--ages` is not to become `–ages`

# --- Notebooks: shown as they were run ------------------------------------------------------------------------------
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # else the page loads scripts from elsewhere
nb_merge_streams = True

# --- The API from docstrings ----------------------------------------------------------------------------------------
default_role = "py:obj"  # `AgeGroups` in a docstring is a link, and `[N, 3, S, S]` is code
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # the name of a constant, not all of its numbers
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# --- The page -------------------------------------------------------------------------------------------------------
html_theme = "furo"
html_title = f"facegen {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
