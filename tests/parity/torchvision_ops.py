"""Torchvision's Python code where its compiled operators do not load (a PyTorch built for another device).

Import this before torchvision, or anything that imports torchvision. The operators are declared with no
implementation: networks need none of them.
"""

import importlib.util

import torch

_DECLARED = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
    if importlib.util.find_spec("torchvision") is not None and not hasattr(torch.ops.torchvision, _name):
        _DECLARED.define(f"{_name}() -> ()")
