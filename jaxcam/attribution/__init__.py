"""Why this output? Gradients, class activation maps, relevance, perturbations. See README.md in this folder."""

from jaxcam.attribution import composites, rules
from jaxcam.attribution.activation_maps import cam, grad_cam, guided_grad_cam, hires_cam, layer_cam
from jaxcam.attribution.differences import deep_lift
from jaxcam.attribution.forward_maps import ablation_cam, eigen_cam, layerwise_maps, score_cam
from jaxcam.attribution.gradients import deconvnet, guided_backprop, input_x_gradient, saliency
from jaxcam.attribution.layerwise import Balance, RuledLayer, audit, conservation, lrp, relevance
from jaxcam.attribution.local_models import lime
from jaxcam.attribution.masks import rise
from jaxcam.attribution.noise import gradient_shap, smooth_grad
from jaxcam.attribution.occluding import occlusion
from jaxcam.attribution.paths import blur_integrated_gradients, guided_integrated_gradients, integrated_gradients
from jaxcam.attribution.plus_plus import grad_cam_plus_plus
from jaxcam.attribution.regions import xrai
from jaxcam.attribution.relevance_budget import RelevanceBudget, RelevanceWarning, relevance_budget
from jaxcam.attribution.segments import segment
from jaxcam.attribution.shapley import kernel_shap, shapley_values
from jaxcam.attribution.targets import contrast

__all__ = [
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
