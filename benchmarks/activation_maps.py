"""Grad-CAM against Captum, Score-CAM against pytorch-grad-cam."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import jaxcam as jc
from benchmarks.cases import Case, Sizes
from benchmarks.gradients import setting
from benchmarks.pytorch import rectified
from benchmarks.subjects import TARGET, Subject

AT_ONCE = 32  # masked images; larger batches are slower


def grad_cam(given: Subject, sizes: Sizes) -> Case:
    method = LayerGradCam(given.network, rectified(given.network, sizes.last))
    return Case(
        "Grad-CAM",
        setting(given),
        "captum",
        lambda: jc.grad_cam(given.model, given.x, TARGET, layer=sizes.last, relu=False),
        lambda: method.attribute(given.images.clone(), target=TARGET)[:, 0],
    )


def score_cam(given: Subject, sizes: Sizes) -> Case:
    """What is timed is the other library's way to its unscaled map, without the resizing that follows."""
    given = given.first(1)
    stage, targets = rectified(given.network, sizes.stage), [ClassifierOutputTarget(TARGET)]
    units = next(layer.units for layer in jc.layers(given.model, given.x) if layer.name == sizes.stage)

    def theirs() -> np.ndarray:
        # One for each call: its hooks keep the activations of every pass while they are there.
        with ScoreCAM(given.network, [stage]) as method:
            method.batch_size = AT_ONCE
            method.outputs = method.activations_and_grads(given.images)
            values = method.activations_and_grads.activations[0].numpy()
            method.activations_and_grads.release()
            with torch.no_grad():
                return np.maximum(method.get_cam_image(given.images, stage, targets, values, None), 0)

    return Case(
        f"Score-CAM ({units} units)",
        setting(given),
        "grad-cam",
        lambda: jc.score_cam(given.model, given.x, TARGET, layer=sizes.stage, align_corners=True),
        theirs,
        note=f"{AT_ONCE} masks a pass",
    )
