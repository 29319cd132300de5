"""Saliency, integrated gradients, SmoothGrad and DeepLIFT, against Captum."""

from __future__ import annotations

from typing import Any
from unittest import mock

import jax
import torch
from captum.attr import DeepLift, IntegratedGradients, NoiseTunnel, Saliency

import jaxcam as jc
from benchmarks.cases import Case, Sizes
from benchmarks.pytorch import tensor
from benchmarks.subjects import TARGET, Subject, subject

SIGMA, KEY = 0.15, 0


def saliency(given: Subject, sizes: Sizes) -> Case:
    method = Saliency(given.network)
    return Case(
        "saliency",
        setting(given),
        "captum",
        lambda: jc.saliency(given.model, given.x, TARGET),
        lambda: method.attribute(leaf(given), target=TARGET, abs=False),
    )


def integrated_gradients(given: Subject, sizes: Sizes) -> Case:
    method, batch = IntegratedGradients(given.network), len(given.x)
    options: dict[str, Any] = {"target": TARGET, "n_steps": sizes.steps, "internal_batch_size": batch}
    return Case(
        f"integrated gradients ({sizes.steps} steps)",
        setting(given),
        "captum",
        lambda: jc.integrated_gradients(given.model, given.x, TARGET, steps=sizes.steps),
        lambda: method.attribute(given.images.clone(), **options).float(),
        note="a batch a pass; larger ones are slower",
    )


def smooth_grad(given: Subject, sizes: Sizes) -> Case:
    """The noise is drawn anew on either side; to compare, Captum is handed jaxcam's draws."""
    method, key = NoiseTunnel(Saliency(given.network)), jax.random.key(KEY)
    options: dict[str, Any] = {"nt_type": "smoothgrad", "nt_samples": sizes.steps, "nt_samples_batch_size": 1}

    def theirs() -> torch.Tensor:
        return method.attribute(leaf(given), target=TARGET, abs=False, stdevs=SIGMA, **options)

    def alike() -> torch.Tensor:
        draws = iter(range(sizes.steps))

        def normal(mean: float, deviations: torch.Tensor) -> torch.Tensor:
            draw = jax.random.normal(jax.random.fold_in(key, next(draws)), given.x.shape[1:])
            return mean + deviations * tensor(draw[None])

        with mock.patch.object(torch, "normal", normal):
            return theirs()

    return Case(
        f"SmoothGrad ({sizes.steps} samples)",
        setting(given),
        "captum",
        lambda: jc.smooth_grad(given.model, given.x, TARGET, key=key, samples=sizes.steps, sigma=SIGMA),
        theirs,
        alike,
        note="a batch a pass; compared on the same draws",
    )


def deep_lift(given: Subject, sizes: Sizes) -> Case:
    """On ResNet50 for small images: Captum's maps are not DeepLIFT's where a max pool stands behind other layers."""
    small = subject("resnet50", 64 if sizes.method_side > 64 else 16, sizes.batch, KEY)
    method = DeepLift(small.network)
    return Case(
        "DeepLIFT",
        f"{setting(small)} (no max pool)",
        "captum",
        lambda: jc.deep_lift(small.model, small.x, TARGET),
        lambda: method.attribute(leaf(small), baselines=torch.zeros_like(small.images), target=TARGET),
    )


def setting(given: Subject) -> str:
    """Network, size and batch in words."""
    count = len(given.x)
    return f"{given.title}, {f'batch of {count}' if count > 1 else 'one image'}"


def leaf(given: Subject) -> torch.Tensor:
    return given.images.clone().requires_grad_()
