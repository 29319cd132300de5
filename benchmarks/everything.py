"""All sides in one process on the same weights: the table of cases, and the run over it."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import pytorch
from benchmarks.activation_maps import grad_cam, score_cam
from benchmarks.cases import Case, Sizes, measure
from benchmarks.gradients import deep_lift, integrated_gradients, saliency, smooth_grad
from benchmarks.measuring import matmul_rate
from benchmarks.perturbations import lime, occlusion
from benchmarks.relevance import lrp
from benchmarks.subjects import Subject, subject
from benchmarks.tables import Report
from benchmarks.units import Measured, sampled, whole

METHODS: dict[str, Callable[[Subject, Sizes], Case]] = {
    "saliency": saliency,
    "Grad-CAM": grad_cam,
    "integrated gradients": integrated_gradients,
    "SmoothGrad": smooth_grad,
    "Score-CAM": score_cam,
    "LRP": lrp,
    "DeepLIFT": deep_lift,
    "occlusion": occlusion,
    "LIME": lime,
}
"""On ResNet50, or what the sizes say; the names are what `--only` looks at."""

UNITS: dict[str, Callable[[Sizes, int, str | None], Measured]] = {
    "all units, VGG11 at 32": lambda sizes, seed, weights: whole(subject("vgg11", 32, 1, seed, weights), sizes),
    # A unit of VGG11 takes three times as long as one of ResNet50.
    "all units, VGG11 at 224": lambda sizes, seed, _: sampled(
        subject("vgg11", sizes.large, 1, seed), dataclasses.replace(sizes, per_layer=sizes.per_layer // 2)
    ),
    "all units, ResNet50": lambda sizes, seed, _: sampled(subject("resnet50", sizes.side, 1, seed), sizes),
}


def chosen(only: list[str] | None) -> list[str]:
    """The names of the cases that any of the words is in; all without words."""
    names = [*UNITS, *METHODS]
    found = [name for name in names if not only or any(word.lower() in name.lower() for word in only)]
    if not found:
        raise SystemExit(f"no case has {' or '.join(only or [])} in its name; there are {', '.join(names)}")
    return found


def run(
    sizes: Sizes,
    only: list[str] | None,
    out: Path,
    command: str,
    *,
    seed: int = 0,
    weights: str | None = None,
) -> Report:
    """Measures every case in turn; what is done is written before the next begins.

    Args:
        sizes: how much is asked.
        only: words, any of which a case's name has; None for all cases.
        out: the folder for the tables.
        command: what the tables say was run.
        seed: of weights and images.
        weights: a trained VGG11 for 32×32, for its units.
    """
    pytorch.settle()
    names, report = chosen(only), Report(command)
    report.rates = matmul_rate()
    for name in [name for name in names if name in UNITS]:
        measured = UNITS[name](sizes, seed, weights)
        report.units.append(measured)
        report.rows += measured.rows
        _said(report, len(measured.rows), out)
    methods = [name for name in names if name in METHODS]
    if methods:
        given = subject(sizes.network, sizes.method_side, sizes.batch, seed, convolutions=sizes.convolutions)
        for name in methods:
            report.rows.append(measure(METHODS[name](given, sizes), sizes))
            _said(report, 1, out)
    return report


def _said(report: Report, new: int, out: Path) -> None:
    """Writes the report so far, and a line for each new row where progress goes."""
    report.write(out)
    for row in report.rows[-new:]:
        ratio = f"{row.ratio:.2f} times {row.ours:.3f} s"
        print(f"{row.name}: {row.other} {ratio}, difference {row.difference:.0e}", file=sys.stderr, flush=True)
    gc.collect()
