"""How time and memory grow with units, image side, batch and devices: curves, their figure, their table.

On ResNet50 with random weights; the layer, of 256 units, stands in the middle of its third stage.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from captum.attr import Saliency

import jaxcam as jc
from benchmarks import pytorch
from benchmarks.gradients import leaf
from benchmarks.measuring import first, interleaved, machine, median
from benchmarks.subjects import TARGET, Subject, subject
from benchmarks.tables import table
from benchmarks.unit_sides import Ours, captum_batched

COPIES = 32
JAXCAM, CAPTUM = "jaxcam", "Captum, batched by hand"


@dataclasses.dataclass(frozen=True)
class Extent:
    """Of which network, and how far the curves go."""

    network: str = "resnet50"
    convolutions: int | None = None
    layer: str = "layer3.3.conv2"
    units: tuple[int, ...] = (1, 8, 32, 128, 256)
    sides: tuple[int, ...] = (96, 128, 160, 192, 224)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    devices: tuple[int, ...] = (1, 2, 8)
    side: int = 224
    repeats: int = 3

    def subject(self, side: int, batch: int, seed: int) -> Subject:
        return subject(self.network, side, batch, seed, convolutions=self.convolutions)


FULL = Extent()
QUICK = Extent(
    network="vgg11",
    convolutions=4,
    layer="features.conv3",
    units=(1, 8),
    sides=(16, 32),
    batches=(1, 2),
    devices=(1, 2),
    side=32,
    repeats=1,
)


@dataclasses.dataclass
class Curve:
    """One quantity against another.

    Attributes:
        title: of the panel.
        label: of the horizontal axis.
        at: where it was measured.
        seconds: by side, as many as `at`.
        memory: likewise, GiB by which the process grew; empty where it cannot be told.
    """

    title: str
    label: str
    at: list[int]
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    memory: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def add(self, sides: dict[str, Callable[[], object]], repeats: int) -> None:
        """Measures one more point: a first call that compiles, a second for its memory, the rest for time."""
        for name, side in sides.items():
            side()
            _, memory = first(side)
            if memory is not None:
                self.memory.setdefault(name, []).append(memory)
        for name, times in interleaved(sides, repeats).items():
            self.seconds.setdefault(name, []).append(median(times))


def over_units(extent: Extent, seed: int) -> Curve:
    """The same image and layer, more and more units."""
    given = extent.subject(extent.side, 1, seed)
    curve = Curve("Units", f"units of {extent.layer}, image of {extent.side}×{extent.side}", list(extent.units))
    for count in extent.units:
        curve.add(unit_sides(given, extent.layer, count), extent.repeats)
    return curve


def over_sides(extent: Extent, seed: int) -> Curve:
    """The same units, larger and larger images."""
    curve = Curve("Image side", f"pixels along a side, {COPIES} units of {extent.layer}", list(extent.sides))
    for side in extent.sides:
        curve.add(unit_sides(extent.subject(side, 1, seed), extent.layer, COPIES), extent.repeats)
    return curve


def over_batches(extent: Extent, seed: int) -> Curve:
    """Saliency of more and more images."""
    given = extent.subject(extent.side, max(extent.batches), seed)
    curve = Curve("Batch", f"images of {extent.side}×{extent.side}, saliency", list(extent.batches))
    for count in extent.batches:
        part = given.first(count)
        method = Saliency(part.network)
        sides: dict[str, Callable[[], object]] = {
            JAXCAM: lambda part=part: jc.saliency(part.model, part.x, TARGET),
            CAPTUM: lambda part=part, method=method: method.attribute(leaf(part), target=TARGET, abs=False),
        }
        curve.add(sides, extent.repeats)
    return curve


def unit_sides(given: Subject, layer: str, count: int) -> dict[str, Callable[[], object]]:
    """So many units of a layer, on either side."""
    chosen, ours = np.arange(count), our_units(given, layer, count)
    return {JAXCAM: ours, CAPTUM: lambda: captum_batched(given, layer, chosen, COPIES)}


def our_units(given: Subject, layer: str, count: int) -> Callable[[], np.ndarray]:
    """jaxcam's side: forward pass, ways back, cosines."""
    side = Ours(given, [layer], None, asked=count)
    return lambda: side.similarities(side.layer(side.image(), layer), np.arange(count))


def over_devices(extent: Extent, seed: int, quick: bool) -> Curve:
    """The same units dealt out over virtual devices of one processor: what dealing out costs, not what it gains.

    JAX must be told the number of devices before it starts, so this runs in a process of its own.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={max(extent.devices)}"
    command = [sys.executable, "-m", "benchmarks.scaling", str(seed), *(["--quick"] if quick else [])]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Curve(**json.loads(done.stdout.splitlines()[-1]))


def _over_devices_here(extent: Extent, seed: int) -> Curve:
    given, count = extent.subject(extent.side, 1, seed), COPIES  # few enough for the plain pass, which is dealt out
    label = f"virtual devices of one processor, {count} units of {extent.layer}"
    curve = Curve("Devices", label, list(extent.devices))
    alone: np.ndarray | None = None
    for number in extent.devices:
        with jc.devices(number):
            ours = our_units(given, extent.layer, count)
            found = ours()
            alone = found if alone is None else alone
            np.testing.assert_allclose(found, alone, atol=1e-6)
            curve.add({JAXCAM: ours}, extent.repeats)
    return curve


def run(quick: bool, out: Path, seed: int) -> str:
    """Measures all curves and writes scaling.svg and scaling.json to a folder.

    Returns:
        The curves as Markdown.
    """
    pytorch.settle()
    extent = QUICK if quick else FULL
    curves = []
    for measured in (over_units, over_sides, over_batches):
        curves.append(measured(extent, seed))
        print(as_table(curves[-1]), file=sys.stderr, flush=True)
        write(curves, out)
    curves.append(over_devices(extent, seed, quick))
    write(curves, out)
    return "\n\n".join([*map(as_table, curves), machine()]) + "\n"


def write(curves: Sequence[Curve], out: Path) -> None:
    """Keeps what has been measured so far: `scaling.json`, `scaling.svg`."""
    from jaxcam.viewing.figures.style import save

    out.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "curves": [dataclasses.asdict(curve) for curve in curves]}
    (out / "scaling.json").write_text(json.dumps(record, indent=1) + "\n")
    save(draw(curves), out / "scaling.svg")


def as_table(curve: Curve) -> str:
    """A row for each point."""
    head = [curve.label, *(f"{side}, s" for side in curve.seconds), *(f"{side}, GiB" for side in curve.memory)]
    columns: Sequence[Sequence[Any]] = [
        [str(value) for value in curve.at],
        *([f"{value:.3g}" for value in values] for values in curve.seconds.values()),
        *([f"{value:.2f}" for value in values] for values in curve.memory.values()),
    ]
    return f"{curve.title}\n\n{table(tuple(head), [list(row) for row in zip(*columns, strict=True)])}"


def draw(curves: Sequence[Curve]) -> Any:
    """Time above, memory below, one column a curve."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from jaxcam.viewing.figures.style import MARKERS, SERIES, styled

    @styled
    def drawn() -> Figure:
        figure = Figure(figsize=(3.1 * len(curves), 4.6), layout="constrained")
        panels = figure.subplots(2, len(curves), squeeze=False)
        for column, curve in enumerate(curves):
            for row, (values, label) in enumerate(((curve.seconds, "seconds"), (curve.memory, "GiB more"))):
                axes = panels[row][column]
                for i, (name, series) in enumerate(values.items()):
                    axes.plot(curve.at, series, color=SERIES[i], marker=MARKERS[i], label=name)
                axes.set_xlim(left=0)
                axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
                axes.set_ylim(0, 1.08 * max((max(series) for series in values.values()), default=1) or 1)
                axes.set_ylabel(label if column == 0 else "")
            panels[0][column].set_title(curve.title)
            panels[1][column].set_xlabel(curve.label.replace(", ", ",\n"))
        panels[0][0].legend(loc="upper left")
        return figure

    return drawn()


if __name__ == "__main__":
    pytorch.settle()
    found = _over_devices_here(QUICK if "--quick" in sys.argv else FULL, int(sys.argv[1]))
    print(json.dumps(dataclasses.asdict(found)))
