"""One case: a question asked of two libraries, and the row that answers it.

Results are compared before anything is timed: a ratio of two speeds means nothing if the numbers differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import pytorch
from benchmarks.measuring import first, interleaved, median, relative_difference

Side = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Attributes:
        network: that methods explain.
        convolutions: how many of its convolutions are kept; None for all.
        method_side: of its images, in pixels.
        side: of the images whose units ResNet50 is asked for.
        batch: images of a gradient method.
        steps: of integrated gradients, and draws of SmoothGrad.
        samples: of LIME.
        windows: of occlusion, along each side.
        last: the layer of Grad-CAM.
        stage: the layer of Score-CAM: 256 units in "layer1".
        per_layer: units of each sampled layer.
        layers: how many layers are sampled at most; None for one of each kind and stage.
        whole: how many layers of VGG11 at 32×32, from the first; None for all.
        large: the side of VGG11's larger images.
        singles: units of each layer that go one a call.
        repeats: timed calls after the first, at most.
        within: seconds after which a case is not called again, once it was timed twice.
        passes: over the sampled units, after the first.
        memory: bytes that jaxcam's chunks of units may take.
    """

    network: str = "resnet50"
    convolutions: int | None = None
    method_side: int = 224
    side: int = 224
    batch: int = 4
    steps: int = 8
    samples: int = 64
    windows: int = 7
    last: str = "layer4"
    stage: str = "layer1"
    per_layer: int = 32
    layers: int | None = None
    whole: int | None = None
    large: int = 224
    singles: int = 3
    repeats: int = 7
    within: float = 15.0
    passes: int = 2
    memory: int | None = None


FULL = Sizes()
ON_A_GPU = Sizes(batch=32, steps=32, samples=512, windows=13, stage="layer2", per_layer=256, passes=5, memory=5 << 30)
QUICK = Sizes(
    network="vgg11",
    convolutions=4,
    method_side=32,
    side=72,
    batch=2,
    steps=2,
    samples=64,
    windows=3,
    last="features.conv3",
    stage="features.conv0",
    per_layer=8,
    layers=2,
    whole=2,
    large=32,
    singles=1,
    repeats=1,
    passes=1,
    memory=16 << 20,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A question both libraries answer.

    Attributes:
        name: of the method.
        setting: network, size, batch.
        library: the other's distribution, "captum".
        ours: jaxcam's side, a JAX array.
        theirs: the other's, a tensor or array, channels before space.
        alike: the other's side to compare with, where what is timed draws numbers of its own; None for `theirs`.
        note: how the other was used.
    """

    name: str
    setting: str
    library: str
    ours: Side
    theirs: Side
    alike: Side | None = None
    note: str = ""


@dataclasses.dataclass
class Row:
    """What was measured; times in seconds, memory in GiB.

    Attributes:
        name: of the method, setting included.
        other: the other library and how it was used.
        ours: median of later calls.
        theirs: likewise.
        ours_first: the first call, compilation included.
        theirs_first: the other's.
        difference: between the two results.
        kind: of difference: "relative" (‖a − b‖/‖b‖) or "largest" (max|a − b|).
        ours_memory: by how much the process grew in the first call; None where it cannot be told.
        theirs_memory: the other's.
        estimated: which times are of a sample, scaled up: "", "theirs" or "both".
        ratio: theirs / ours.
    """

    name: str
    other: str
    ours: float
    theirs: float
    ours_first: float | None
    theirs_first: float | None
    difference: float
    kind: str = "relative"
    ours_memory: float | None = None
    theirs_memory: float | None = None
    estimated: str = ""
    ratio: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.ratio = self.theirs / self.ours


def measure(case: Case, sizes: Sizes) -> Row:
    """Compares, then times the sides in turns."""
    (ours, cold), our_memory = first(case.ours)
    (theirs, other_cold), their_memory = first(case.theirs)
    if case.alike is not None:
        theirs = case.alike()
    difference = relative_difference(np.asarray(ours), pytorch.array(theirs))
    times = interleaved({"ours": case.ours, "theirs": case.theirs}, sizes.repeats, sizes.within)
    other = f"{case.library} ({case.note})" if case.note else case.library
    return Row(
        name=f"{case.name}, {case.setting}",
        other=other,
        ours=median(times["ours"]),
        theirs=median(times["theirs"]),
        ours_first=cold,
        theirs_first=other_cold,
        difference=difference,
        ours_memory=our_memory,
        theirs_memory=their_memory,
    )
