"""What did a convolutional network learn? Explanations as function transformations of any JAX model.

An explanation is a function of a function: jaxcam turns a model `x -> outputs` into its activations, its guided
backward pass, the map of what it looked at, the similarity of every one of its units to a class. Nothing in the model
is edited, hooked or put back.

    import jaxcam as jc

    jc.layers(model, x)                      # what can be named
    jc.tap(model, "layer3")(x)               # activations
    jc.integrated_gradients(model, x)        # why this class?
    jc.neurons.similarity(model, x)          # every unit of every layer

Rooms: `program` (what a model is made of), `attribution` (why this output?), `neurons` (every unit of every layer),
`quality` (is the explanation any good?), `studies` (questions about a network), `models`, `data`, `training`,
`viewing`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxcam.version import __version__

if TYPE_CHECKING:
    from jaxcam import data, models, neurons, quality, studies, training, viewing
    from jaxcam.attribution import (
        Balance,
        RelevanceBudget,
        RelevanceWarning,
        RuledLayer,
        ablation_cam,
        audit,
        blur_integrated_gradients,
        cam,
        composites,
        conservation,
        contrast,
        deconvnet,
        deep_lift,
        eigen_cam,
        grad_cam,
        grad_cam_plus_plus,
        gradient_shap,
        guided_backprop,
        guided_grad_cam,
        guided_integrated_gradients,
        hires_cam,
        input_x_gradient,
        integrated_gradients,
        kernel_shap,
        layer_cam,
        layerwise_maps,
        lime,
        lrp,
        occlusion,
        relevance,
        relevance_budget,
        rise,
        rules,
        saliency,
        score_cam,
        segment,
        shapley_values,
        smooth_grad,
        xrai,
    )
    from jaxcam.program import Layer, accelerate, deconv, devices, guided, layers, patch, tag, tap

_ROOMS = ("data", "models", "neurons", "quality", "studies", "training", "viewing")
_PROGRAM = ("Layer", "accelerate", "deconv", "devices", "guided", "layers", "patch", "tag", "tap")

__all__ = [  # noqa: RUF022 - by room
    "__version__",
    # rooms
    "data",
    "models",
    "neurons",
    "quality",
    "studies",
    "training",
    "viewing",
    # program
    "Layer",
    "accelerate",
    "deconv",
    "devices",
    "guided",
    "layers",
    "patch",
    "tag",
    "tap",
    # attribution
    "Balance",
    "RelevanceBudget",
    "RelevanceWarning",
    "RuledLayer",
    "ablation_cam",
    "audit",
    "blur_integrated_gradients",
    "cam",
    "composites",
    "conservation",
    "contrast",
    "deconvnet",
    "deep_lift",
    "eigen_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient_shap",
    "guided_backprop",
    "guided_grad_cam",
    "guided_integrated_gradients",
    "hires_cam",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "layer_cam",
    "layerwise_maps",
    "lime",
    "lrp",
    "occlusion",
    "relevance",
    "relevance_budget",
    "rise",
    "rules",
    "saliency",
    "score_cam",
    "segment",
    "shapley_values",
    "smooth_grad",
    "xrai",
]


def __getattr__(name: str) -> Any:
    """Imports a room when it is first asked for: `jaxcam --help` need not wait for JAX."""
    if name in _ROOMS:
        return importlib.import_module(f"jaxcam.{name}")
    if name in __all__:
        home = "program" if name in _PROGRAM else "attribution"
        return getattr(importlib.import_module(f"jaxcam.{home}"), name)
    raise AttributeError(f"module 'jaxcam' has no attribute {name!r}")
