"""Torchvision's operators are declared by us only where its own library does not bring them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PRESENT = all(importlib.util.find_spec(name) is not None for name in ("torch", "torchvision"))
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not PRESENT, reason="PyTorch or torchvision is not installed"),
]

# A library that loads: it registers its operators once, as a shared object does, and aborts on a second registration.
PROBE = """
import torch

own = torch.library.Library("torchvision", "FRAGMENT")
loaded = []

def load_library(path):
    if {loads} and not loaded:
        for name in {names}:
            own.define(f"{{name}}(Tensor x) -> Tensor")
        loaded.append(path)
    elif not {loads}:
        raise OSError("built for another PyTorch")

torch.ops.load_library = load_library
import torchvision_ops
if {loads}:
    load_library("as torchvision does")
else:
    import torchvision
print(*torchvision_ops.MISSING)
"""
NAMES = ["nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"]


@pytest.mark.parametrize(
    ("loads", "names", "missing"), [(True, NAMES, []), (True, NAMES[:5], NAMES[5:]), (False, [], NAMES)]
)
def test_only_what_the_library_does_not_bring_is_declared(loads, names, missing):
    script = PROBE.format(loads=loads, names=names)
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == missing
