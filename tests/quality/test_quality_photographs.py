"""On photographs and a trained SqueezeNet methods do better than random maps: `benchmarks quality`, made small."""

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "attribution")]
import trained_nets

pytestmark = [pytest.mark.slow, pytest.mark.optimized]


def test_methods_are_better_than_random_maps():
    from benchmarks import quality

    trained_nets.data("imagenet", "sample100")
    trained_nets.data("squeezenet", "squeezenet1_1.safetensors")
    x = quality.photographs(4)
    found = quality.measured(quality.network(), x, quality.methods(masks=120, samples=64), steps=10, seed=0)
    deletion, insertion = ({name: areas[:, i].mean() for name, (areas, _) in found.items()} for i in (0, 1))
    for name in ("Grad-CAM", "integrated gradients, absolute", "RISE", "LIME"):
        assert insertion[name] > 1.2 * max(insertion[control] for control in quality.CONTROLS), name
        assert deletion[name] < deletion["random, smooth"], name
