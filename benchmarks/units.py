"""All units of a network for one image: guided maps and their cosine to the image, jaxcam against Captum.

VGG11 at 32×32 is run whole. VGG11 and ResNet50 at 224×224 take Captum hours: a sample of units of a sample of layers
stands for all of them, one layer of each kind and stage.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import jaxcam as jc
from benchmarks.cases import Row, Sizes
from benchmarks.measuring import first, interleaved, median, seconds, timed
from benchmarks.subjects import Subject
from benchmarks.unit_sides import Ours, captum_batched, captum_single, work_below

COPIES = 64
VGG = {"conv0": [0], "conv1": [1], "conv3": [2, 3], "conv5": [4, 5, 6, 7]}


@dataclasses.dataclass
class Measured:
    """What is known about all units of a network.

    Attributes:
        rows: of the table, against Captum batched by hand and one unit a call.
        title: of the details.
        rate: FLOP/s at which jaxcam gets through the plain backward passes, in units of 10⁹.
        notes: lines of Markdown.
        layers: a row for each sampled layer.
    """

    rows: list[Row]
    title: str
    rate: float
    notes: list[str]
    layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def whole(given: Subject, sizes: Sizes) -> Measured:
    """Every unit, on all sides; one unit a call from a sample."""
    counts = _convolutions(given)
    names = list(counts)[: sizes.whole]
    wanted = {name: np.arange(counts[name]) for name in names}
    total = sum(len(units) for units in wanted.values())

    def ours() -> dict[str, Any]:
        return jc.neurons.similarity(given.model, given.x[:1], names)

    def theirs() -> dict[str, np.ndarray]:
        return {name: captum_batched(given, name, units, COPIES) for name, units in wanted.items()}

    (found, cold), our_memory = first(ours)
    (other, other_cold), their_memory = first(theirs)
    similarities = {name: np.asarray(values[0]) for name, values in found.items()}
    largest = max(float(np.abs(similarities[name] - other[name]).max()) for name in names)
    dead = sum(int((values == 0).sum()) for values in similarities.values())
    times = interleaved({"ours": ours, "theirs": theirs}, sizes.repeats, sizes.within)
    fast = median(times["ours"])
    single = sum(counts[name] * _one_a_call(given, name, _spread(wanted[name], sizes.singles))[1] for name in names)
    title = f"{_share(total, counts)} of {given.title}, one image"
    below = work_below(given.model, given.x)
    flops = sum(counts[name] * below[name] for name in names)
    common = {"name": title, "ours": fast, "difference": largest, "kind": "largest"}
    rows = [
        Row(
            **common,
            other=f"captum ({COPIES} units a batch)",
            theirs=median(times["theirs"]),
            ours_first=cold,
            theirs_first=other_cold,
            ours_memory=our_memory,
            theirs_memory=their_memory,
        ),
        Row(
            **common,
            other=f"captum (one unit a call, from {sizes.singles} of each layer)",
            theirs=single,
            ours_first=cold,
            theirs_first=None,
            estimated="theirs",
        ),
    ]
    notes = [
        f"{dead} of {total:,} units are dead for the image ({given.weights} weights); jaxcam does not send them back",
        f"jaxcam's calls took {', '.join(f'{t:.2f}' for t in times['ours'])} s",
        f"the plain backward passes are {flops / 1e12:.2f} TFLOP",
    ]
    return Measured(rows, title, flops / fast / 1e9, notes)


@dataclasses.dataclass
class Sampled:
    """One layer that stands for others of its kind, and what its sampled units took.

    Attributes:
        layer: its name.
        stands_for: itself and the others.
        units: those that jaxcam is asked, a whole chunk at least.
        fewer: those of them that Captum is asked, which has no use for a whole chunk.
        live: the share of live units in the layer.
    """

    layer: str
    stands_for: list[str]
    units: np.ndarray
    fewer: np.ndarray
    live: float
    prepared: list[float] = dataclasses.field(default_factory=list)
    ours: list[float] = dataclasses.field(default_factory=list)
    theirs: list[float] = dataclasses.field(default_factory=list)
    single: float = 0.0
    largest: float = 0.0
    our_memory: float | None = None
    their_memory: float | None = None


def sampled(given: Subject, sizes: Sizes) -> Measured:
    """A sample of units of a sample of layers, scaled up to all."""
    counts = _convolutions(given)
    groups = _groups(given, counts)
    if sizes.layers is not None:
        chosen = [list(groups)[i] for i in np.linspace(0, len(groups) - 1, sizes.layers).astype(int)]
        groups = {name: groups[name] for name in chosen}
    side = Ours(given, [*groups, list(counts)[-1]], sizes.memory)
    samples: dict[str, Sampled] = {}
    images = [_first_pass(given, side, groups, sizes, samples)]
    for _ in range(sizes.passes):
        image, took = timed(side.image)
        images.append(took)
        for sample in samples.values():
            sender, took = timed(lambda image=image, sample=sample: side.layer(image, sample.layer))
            sample.prepared.append(took)
            sample.ours.append(seconds(lambda sender=sender, sample=sample: side.similarities(sender, sample.units)))
            sample.theirs.append(seconds(lambda sample=sample: _captum(given, sample)))
    for sample in samples.values():
        found, sample.single = _one_a_call(given, sample.layer, _spread(sample.fewer, sizes.singles))
        sample.largest = max(sample.largest, found)
    return _scaled_up(given, counts, list(samples.values()), images)


def _first_pass(
    given: Subject, side: Ours, groups: dict[str, list[str]], sizes: Sizes, samples: dict[str, Sampled]
) -> float:
    """Chooses live units, a whole chunk at least, compares the sides, and keeps the first times, compiling included."""
    image, took = timed(side.image)
    for name, stands_for in groups.items():
        sender, prepared = timed(lambda name=name: side.layer(image, name))
        live = np.flatnonzero(~sender.dead)
        if not live.size:
            raise SystemExit(f"layer '{name}' of {given.title} has no live unit for this image; take another --seed")
        units = _spread(live, max(sizes.per_layer, sender.chunk))
        sample = Sampled(name, stands_for, units, _spread(units, sizes.per_layer), len(live) / len(sender.dead))
        (ours, cold), sample.our_memory = first(
            lambda sender=sender, sample=sample: side.similarities(sender, sample.units)
        )
        (theirs, other_cold), sample.their_memory = first(lambda sample=sample: _captum(given, sample))
        sample.largest = float(np.abs(ours[np.searchsorted(units, sample.fewer)] - theirs).max())
        sample.prepared, sample.ours, sample.theirs = [prepared], [cold], [other_cold]
        samples[name] = sample
    return took


def _scaled_up(given: Subject, counts: dict[str, int], samples: list[Sampled], images: list[float]) -> Measured:
    below = work_below(given.model, given.x)
    ours = median(images[1:])
    batched, single, layers = 0.0, 0.0, []
    for sample in samples:
        number, many = len(sample.units), sum(counts[name] for name in sample.stands_for)
        each, prepared = median(sample.ours[1:]) / number, median(sample.prepared[1:])
        their_each = median(sample.theirs[1:]) / len(sample.fewer)
        ours += len(sample.stands_for) * prepared + many * sample.live * each
        batched += many * their_each
        single += many * sample.single
        layers.append(
            {
                "layer": sample.layer,
                "stands for layers": len(sample.stands_for),
                "units": many,
                "live": sample.live,
                "prepared, s": prepared,
                "ms a unit": 1e3 * each,
                "Captum, ms a unit": 1e3 * their_each,
                "ratio": their_each / each,
                "one a call, ms": 1e3 * sample.single,
                "GFLOP/s": below[sample.layer] / each / 1e9,
                "difference": sample.largest,
            }
        )
    title = f"{_share(sum(row['units'] for row in layers), counts)} of {given.title}, one image"
    largest = max(sample.largest for sample in samples)
    number = min(len(sample.fewer) for sample in samples)
    common = {"name": title, "ours": ours, "difference": largest, "kind": "largest", "estimated": "both"}
    firsts = {"ours_first": None, "theirs_first": None}
    memory = {
        "ours_memory": _largest(sample.our_memory for sample in samples),
        "theirs_memory": _largest(sample.their_memory for sample in samples),
    }
    rows = [
        Row(**common, **firsts, **memory, other=f"captum ({number} units a batch)", theirs=batched),
        Row(**common, **firsts, other="captum (one unit a call)", theirs=single),
    ]
    spent = sum(median(sample.ours[1:]) for sample in samples)
    done = sum(len(sample.units) * below[sample.layer] for sample in samples)
    cold, warm = (
        images[i] + sum(sample.prepared[i] + sample.ours[i] for sample in samples) for i in (0, len(images) - 1)
    )
    their_cold, their_warm = (sum(sample.theirs[i] for sample in samples) for i in (0, len(images) - 1))
    notes = [
        f"from {number} live units of each of {len(samples)} layers, which stand for their kind and stage; jaxcam's "
        f"from a whole chunk of {min(len(s.units) for s in samples)} to {max(len(s.units) for s in samples)} units",
        f"jaxcam's sample took {cold:.1f} s the first time, compilation included, and {warm:.1f} s later, of which "
        f"{images[-1]:.1f} s are shared by all layers; Captum's {their_cold:.1f} s and {their_warm:.1f} s",
        f"PyTorch has its {given.layout}",
    ]
    return Measured(rows, title, done / spent / 1e9, notes, layers)


def _captum(given: Subject, sample: Sampled) -> np.ndarray:
    return captum_batched(given, sample.layer, sample.fewer, COPIES)


def _one_a_call(given: Subject, layer: str, units: np.ndarray) -> tuple[float, float]:
    """The largest difference to the batch, and the seconds of one unit once warm."""
    batched = captum_batched(given, layer, units, COPIES)
    alone = np.concatenate([captum_single(given, layer, int(unit)) for unit in units])
    times = [seconds(lambda unit=unit: captum_single(given, layer, int(unit))) for unit in units]
    return float(np.abs(batched - alone).max()), median(times)


def _groups(given: Subject, counts: dict[str, int]) -> dict[str, list[str]]:
    """Layers that are sampled, and for which others each stands: the middle one of its kind in its stage."""
    if given.model.config.name == "vgg11":
        return {f"features.{name}": [f"features.conv{i}" for i in numbers] for name, numbers in VGG.items()}
    kinds: dict[tuple[str, str], list[str]] = {}
    for name in counts:
        stage, *_, kind = name.split(".") if "." in name else (name, name)
        kinds.setdefault((stage, "downsample" if kind == "0" else kind), []).append(name)
    return {names[len(names) // 2]: names for names in kinds.values()}


def _convolutions(given: Subject) -> dict[str, int]:
    """Every convolution and its units."""
    return {layer.name: layer.units for layer in jc.layers(given.model, given.x[:1]) if layer.kind == "conv"}


def _spread(units: np.ndarray, count: int) -> np.ndarray:
    """So many of them, from all over."""
    return units[np.unique(np.linspace(0, len(units) - 1, count).astype(int))]


def _share(units: int, counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return f"all {total:,} units" if units == total else f"{units:,} of {total:,} units"


def _largest(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return max(known, default=None)
