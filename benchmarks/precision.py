"""What fewer bits change: similarities of a trained SqueezeNet's units to photographs, against those in float32."""

from __future__ import annotations

import numpy as np

import jaxcam as jc
from benchmarks.measuring import machine
from benchmarks.quality import network, photographs


def run(images: int, layers: list[str] | None) -> str:
    """A table, a row for each precision and layer: the worst of all photographs.

    Args:
        images: how many photographs.
        layers: only these; None for the squeezes, the narrow layers that everything goes through.
    """
    model, x = network(), photographs(images)
    if layers is None:
        names = [layer.name for layer in jc.layers(model, x[:1]) if layer.kind == "conv"]
        layers = [name for name in names if "squeeze" in name]
    found = {
        precision: {
            name: np.asarray(values)
            for name, values in jc.neurons.similarity(model, x, layers, precision=precision).items()
        }
        for precision in jc.neurons.PRECISIONS
    }
    lines = ["| layer | units | precision | least rank correlation | largest difference |", "|---|---|---|---|---|"]
    for precision in jc.neurons.PRECISIONS[1:]:
        changes = [
            jc.neurons.changes(
                {name: values[i] for name, values in found[precision].items()},
                {name: values[i] for name, values in found["float32"].items()},
            )
            for i in range(len(x))
        ]
        for name in layers:
            rank = min(change[name].rank_correlation for change in changes)
            difference = max(change[name].largest_difference for change in changes)
            units = found[precision][name].shape[1]
            lines.append(f"| {name} | {units} | {precision} | {rank:.4f} | {difference:.1e} |")
    return "\n".join([f"{len(x)} photographs, guided, cosine to the photograph; {machine()}", "", *lines, ""])
