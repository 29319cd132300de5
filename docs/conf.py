"""How the documentation is built: `sphinx-build -W --keep-going docs docs/_build`, after `pip install '.[docs]'`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from jaxcam.version import __version__

project = "jaxcam"
author = "The jaxcam authors"
copyright = "The jaxcam authors, Apache-2.0"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "api_pages"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "jaxcam"
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# .ci/run executes the notebooks in a stage of its own, before this one; what they drew is then in the pages.
nb_execution_mode = "off"
# Notebooks are read from their .ipynb, and their .py twins are theirs only.
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings say shapes, ranges and units
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # likewise
