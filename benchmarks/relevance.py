"""Layer-wise relevance propagation against zennit, the same composite."""

from __future__ import annotations

import copy

import torch
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer

import jaxcam as jc
from benchmarks.cases import Case, Sizes
from benchmarks.gradients import setting
from benchmarks.subjects import TARGET, Subject


def lrp(given: Subject, sizes: Sizes) -> Case:
    """Zennit's composite is entered once, for all calls, on a copy of the network: batch norms stay merged."""
    network = copy.deepcopy(given.network)
    attributor = Gradient(model=network, composite=EpsilonPlus(canonizers=[ResNetCanonizer()]))
    attributor.__enter__()

    def theirs() -> torch.Tensor:
        return attributor(given.images, _score)[1]

    return Case(
        "LRP (epsilon-plus)",
        setting(given),
        "zennit",
        lambda: jc.lrp(given.model, given.x, TARGET, composite="epsilon_plus"),
        theirs,
        note="composite entered once",
    )


def _score(outputs: torch.Tensor) -> torch.Tensor:
    """Relevance starts as the score of the target, as ours does."""
    start = torch.zeros_like(outputs)
    start[:, TARGET] = outputs[:, TARGET]
    return start
