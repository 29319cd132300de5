"""The one table of methods: the command line, the tests' contract and the contact sheet all read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jaxcam.attribution import (
    activation_maps,
    differences,
    forward_maps,
    gradients,
    layerwise,
    local_models,
    masks,
    noise,
    occluding,
    paths,
    plus_plus,
    regions,
    shapley,
)


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
    Method(
        "blur_integrated_gradients",
        paths.blur_integrated_gradients,
        "gradient",
        quick=MappingProxyType({"steps": 4}),
    ),
    Method(
        "guided_integrated_gradients",
        paths.guided_integrated_gradients,
        "gradient",
        quick=MappingProxyType({"steps": 4}),
    ),
    Method("occlusion", occluding.occlusion, "perturbation", quick=MappingProxyType({"window": 8, "stride": 4})),
    Method("deep_lift", differences.deep_lift, "gradient"),
    Method("smooth_grad", noise.smooth_grad, "gradient", random=True, quick=MappingProxyType({"samples": 4})),
    Method("gradient_shap", noise.gradient_shap, "gradient", random=True, quick=MappingProxyType({"samples": 4})),
    Method(
        "rise",
        masks.rise,
        "perturbation",
        "pixels",
        random=True,
        quick=MappingProxyType({"masks": 32, "grid": 4}),
    ),
    Method(
        "lime",
        local_models.lime,
        "perturbation",
        "pixels",
        random=True,
        quick=MappingProxyType({"segments": "grid", "samples": 64}),
    ),
    Method(
        "kernel_shap",
        shapley.kernel_shap,
        "perturbation",
        "pixels",
        random=True,
        quick=MappingProxyType({"segments": "grid", "samples": 64}),
    ),
    Method(
        "shapley_values", shapley.shapley_values, "perturbation", "pixels", quick=MappingProxyType({"segments": "grid"})
    ),
    Method("lrp", layerwise.lrp, "relevance"),
    Method("cam", activation_maps.cam, "activation map", "layer", layer=True),
    Method("grad_cam", activation_maps.grad_cam, "activation map", "layer", layer=True, signed=False),
    Method("grad_cam_plus_plus", plus_plus.grad_cam_plus_plus, "activation map", "layer", layer=True, signed=False),
    Method("hires_cam", activation_maps.hires_cam, "activation map", "layer", layer=True),
    Method("layer_cam", activation_maps.layer_cam, "activation map", "layer", layer=True, signed=False),
    Method("score_cam", forward_maps.score_cam, "activation map", "layer", layer=True, signed=False),
    Method("ablation_cam", forward_maps.ablation_cam, "activation map", "layer", layer=True, signed=False),
    Method("eigen_cam", forward_maps.eigen_cam, "activation map", "layer", layer=True),
    Method(
        "layerwise_maps",
        forward_maps.layerwise_maps,
        "activation map",
        "layer",
        layer=True,
        quick=MappingProxyType({"missing": "ones"}),
    ),
    Method("guided_grad_cam", activation_maps.guided_grad_cam, "activation map", layer=True),
    Method("xrai", regions.xrai, "perturbation", "pixels", quick=MappingProxyType({"steps": 4, "segments": "grid"})),
)
