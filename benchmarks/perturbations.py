"""Occlusion and LIME against Captum: the same windows, the same segments, the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime, Occlusion

import jaxcam as jc
from benchmarks.cases import Case, Sizes
from benchmarks.gradients import setting
from benchmarks.subjects import TARGET, Subject
from jaxcam.attribution.local_models import random_pieces

AT_ONCE = 32  # changed images a pass; larger batches are slower
SEGMENTS, WIDTH = 49, 0.25


def occlusion(given: Subject, sizes: Sizes) -> Case:
    """Windows that overlap by half."""
    given = given.first(1)
    window = 2 * (given.x.shape[1] // (sizes.windows + 1))
    stride, method = window // 2, Occlusion(given.network)
    options: dict[str, Any] = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    return Case(
        f"occlusion (windows of {window}, stride {stride})",
        setting(given),
        "captum",
        lambda: jc.occlusion(given.model, given.x, TARGET, window=window, stride=stride),
        lambda: method.attribute(given.images, target=TARGET, perturbations_per_eval=AT_ONCE, **options),
        note=f"{AT_ONCE} windows a pass",
    )


def lime(given: Subject, sizes: Sizes) -> Case:
    """Captum's Lime with jaxcam's samples, the package lime's kernel and its ridge regression."""
    given, key = given.first(1), jax.random.key(0)
    segments = jc.segment(np.asarray(given.x), "grid", count=SEGMENTS)
    device = given.images.device
    rows = torch.from_numpy(np.array(random_pieces(key, sizes.samples, SEGMENTS), np.int64)).to(device)
    labels = torch.from_numpy(np.array(segments, np.int64))[:, None].to(device)

    def samples(inputs: torch.Tensor, **_: Any) -> Iterator[torch.Tensor]:
        yield from rows[:, None]

    def kernel(inputs: torch.Tensor, changed: torch.Tensor, row: torch.Tensor, **_: Any) -> torch.Tensor:
        distance = 1 - row.float().mean().sqrt()
        return torch.exp(-(distance**2) / (2 * WIDTH**2))

    method = Lime(given.network, SkLearnRidge(alpha=1.0), kernel, samples)
    options: dict[str, Any] = {"n_samples": sizes.samples, "perturbations_per_eval": AT_ONCE, "baselines": 0.0}

    def theirs() -> torch.Tensor:
        return method.attribute(given.images, target=TARGET, feature_mask=labels, **options)[:, 0]

    return Case(
        f"LIME ({sizes.samples} samples, {SEGMENTS} segments)",
        setting(given),
        "captum",
        lambda: jc.lime(
            given.model,
            given.x,
            TARGET,
            key=key,
            segments=segments,
            samples=sizes.samples,
            kernel_width=WIDTH,
            baseline=0.0,
        ),
        theirs,
        note=f"{AT_ONCE} samples a pass, the same ones",
    )
