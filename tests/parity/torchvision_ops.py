"""Torchvision's Python code where its compiled operators do not load (a PyTorch built for another device).

Import this before torchvision, or anything that imports torchvision. It loads torchvision's own library first, as
torchvision does; only operators that are missing after that are declared, with no implementation: networks need none
of them. Declared before, they would be registered twice where the library loads, and the interpreter aborts.
"""

import contextlib
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder

import torch

_OPERATORS = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")


def _load_library() -> None:
    """Loads torchvision's compiled operators, where they fit this PyTorch."""
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return
    folder = package.submodule_search_locations[0]
    library = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec("_C")
    if library is not None and library.origin is not None:
        with contextlib.suppress(ImportError, OSError):  # built for another PyTorch
            torch.ops.load_library(library.origin)


_load_library()
_DECLARED = torch.library.Library("torchvision", "FRAGMENT")
MISSING = [
    name
    for name in _OPERATORS
    if importlib.util.find_spec("torchvision") is not None and not hasattr(torch.ops.torchvision, name)
]
for _name in MISSING:
    _DECLARED.define(f"{_name}(Tensor x) -> Tensor")
