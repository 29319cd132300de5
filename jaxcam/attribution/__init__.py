"""Why this output? Gradients, class activation maps, relevance, perturbations. See README.md in this folder."""

from jaxcam.attribution.gradients import deconvnet, guided_backprop, input_x_gradient, saliency
from jaxcam.attribution.noise import gradient_shap, smooth_grad
from jaxcam.attribution.occluding import occlusion
from jaxcam.attribution.paths import integrated_gradients
from jaxcam.attribution.targets import contrast

__all__ = [
    "contrast",
    "deconvnet",
    "gradient_shap",
    "guided_backprop",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "saliency",
    "smooth_grad",
]
