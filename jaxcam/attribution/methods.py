"""The one table of methods: the command line, the tests' contract and the contact sheet all read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jaxcam.attribution import gradients, noise, occluding, paths


@dataclasses.dataclass(frozen=True)
class Method:
    """One attribution method, and what a caller must know to call it.

    Attributes:
        name: as on the command line and in `jc.NAME`.
        function: (model, x, target=None, **options) -> maps.
        family: "gradient", "activation map", "relevance" or "perturbation".
        output: "image" for maps like x, "layer" for maps (n, h, w) as large as a layer, "pixels" for maps (n, H, W) as
            large as the image.
        random: whether it takes a key.
        layer: whether it takes a layer.
        quick: options that make it fast on a small image, for tests and previews.
        signed: whether its maps have a sign that means something.
    """

    name: str
    function: Callable[..., Any]
    family: str
    output: str = "image"
    random: bool = False
    layer: bool = False
    quick: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    signed: bool = True


def _table(*methods: Method) -> Mapping[str, Method]:
    return MappingProxyType({method.name: method for method in methods})


METHODS: Mapping[str, Method] = _table(
    Method("saliency", gradients.saliency, "gradient"),
    Method("input_x_gradient", gradients.input_x_gradient, "gradient"),
    Method("guided_backprop", gradients.guided_backprop, "gradient"),
    Method("deconvnet", gradients.deconvnet, "gradient"),
    Method("integrated_gradients", paths.integrated_gradients, "gradient", quick=MappingProxyType({"steps": 4})),
    Method("occlusion", occluding.occlusion, "perturbation", quick=MappingProxyType({"window": 8, "stride": 4})),
    Method("smooth_grad", noise.smooth_grad, "gradient", random=True, quick=MappingProxyType({"samples": 4})),
    Method("gradient_shap", noise.gradient_shap, "gradient", random=True, quick=MappingProxyType({"samples": 4})),
)
