"""The report's sections, each a finished run turned into what its part of the template needs.

No HTML is put together here and no number is computed that the run does not hold, beyond means over units and seeds.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from jaxcam.neurons import MEASURES
from jaxcam.neurons.average_record import missed, treatment
from jaxcam.neurons.candidates import Candidates, one_to_one
from jaxcam.viewing import interactive, packing, reading
from jaxcam.viewing.figures.pictures import KINDS
from jaxcam.viewing.figures.style import check_classes, short_names
from jaxcam.viewing.pasteable import arguments_here, module_path
from jaxcam.viewing.runs import WHOLE, Run, layer_shapes, read_csv, read_npz, read_sweep, times
from jaxcam.viewing.tables import by_class, curve_table, dead_table, history_table, pruning_table

RULES = {
    "guided": "guided backpropagation",
    "gradient": "the plain gradient",
    "deconv": "deconvnet",
    "integrated": "integrated gradients",
}
SHOWS = {
    "simple": "the mean of all images of a class",
    "most": "the mean of those images of a class on which the network is most confident",
    "least": "the mean of those images of a class on which the network is least confident",
    "ascent": "the mean of a class, changed by gradient ascent to raise the network’s confidence",
}
TABLED = 20
POSITIONAL = dict.fromkeys(("explain", "compare", "redundancy", "distributions", "linear-piece"), "images")
"""What a command takes without an option's name before it."""


def training(run: Run) -> dict[str, Any]:
    """Curves by epoch and the accuracy of each class.

    Args:
        run: of jaxcam train.

    Returns:
        What the template shows.

    Raises:
        ValueError: history.csv is missing or broken.
    """
    table = history_table(read_csv(run, "history.csv"))
    accuracies = _per_class(run)
    return {
        "reading": reading.training(table),
        "charts": [(quantity, chart(interactive.history(table, quantity))) for quantity in ("loss", "accuracy")],
        "accuracy": float(table["test_accuracy"][-1]),
        "per_class": sorted(accuracies.items(), key=lambda item: item[1]),
        "per_class_reading": reading.per_class(accuracies) if accuracies else "",
    }


def averages(run: Run) -> dict[str, Any]:
    """Class averages of every kind and what the network makes of them.

    Args:
        run: of jaxcam averages.

    Returns:
        What the template shows.

    Raises:
        ValueError: averages.npz is missing, or its classes are not those of the manifest.
    """
    images = read_npz(run, "averages.npz")
    confidences = read_npz(run, "confidence.npz") if (run.path / "confidence.npz").exists() else {}
    order = [kind for kind in KINDS if kind in images] + [kind for kind in images if kind not in KINDS]
    number = len(images[order[0]])
    classes = _classes(run, number)
    shown = min(number, packing.CLASSES)
    known = candidates_of(run, confidences)
    names = output_names(run, known, classes)
    tables = {kind: by_class(values, known.columns) for kind, values in confidences.items()}
    records = run.part("results").get("pictures") or {}
    return {
        "classes": classes,
        "columns": [*classes, "another"] if known.count > number else classes,
        "among": known.words,
        "treatments": [(KINDS.get(kind, kind), treatment(kind, records[kind])) for kind in order if kind in records],
        "missed": [text for kind in order if (text := missed(records.get(kind, {}), classes))],
        "shown": shown,
        "rows": [
            (KINDS.get(kind, kind), [packing.photograph(image) for image in images[kind][:shown]]) for kind in order
        ],
        "confidences": [
            {
                "kind": KINDS.get(kind, kind),
                "reading": reading.confidence(
                    confidences[kind], classes, outputs=known.columns, names=names, among=known.words
                ),
                "rows": tables[kind].tolist() if number <= TABLED else None,
                "picture": packing.share_map(tables[kind]) if number > TABLED else None,
            }
            for kind in order
            if kind in confidences
        ],
    }


def candidates_of(run: Run, confidences: Mapping[str, np.ndarray]) -> Candidates:
    """Which outputs competed in the confidences of a run."""
    known = Candidates.of_manifest(run.manifest)
    if known is None:  # a manifest without names of classes
        known = one_to_one(max((values.shape[1] for values in confidences.values()), default=0))
    return known


def output_names(run: Run, known: Candidates, classes: Sequence[str]) -> list[str]:
    """What the outputs that competed are called: the data's classes by their names, the others as the run says."""
    named = dict(enumerate(run.part("results").get("output_names") or ()))
    named |= dict(zip(known.columns, classes, strict=False))
    return [str(named.get(i, f"class {i}")) for i in range(known.count)]


def neurons(run: Run, index: int) -> dict[str, Any]:
    """Everything about the units: curves, dead units, extreme units, the numbers of all.

    Args:
        run: of jaxcam neurons.
        index: tells the page's sweeps apart.

    Returns:
        What the template shows.

    Raises:
        ValueError: the sweep is missing or broken.
    """
    sweep = read_sweep(run)
    metric, kind = str(sweep.attrs.get("metric", "cosine")), str(sweep.attrs.get("average", "simple"))
    larger, nothing = _measure(metric)
    similarity = {name: sweep.similarity(name) for name in sweep.layers}
    dead = {name: sweep.dead(name) for name in sweep.layers}
    for name, values in similarity.items():
        check_classes(len(values), sweep.classes, f"the similarities of layer {name!r}")
    tables = {"all": curve_table(similarity), "live": curve_table(similarity, dead)}
    counts = dead_table(dead)
    shapes = layer_shapes(sweep)
    shape, short = sweep.average.shape, short_names(sweep.layers)
    side = max(sweep.extremes(sweep.layers[0])[1].shape[2:4])
    chosen = packing.plan(len(sweep.classes), len(sweep.layers), shape[-1], side)
    words = f"{metric} {'similarity' if larger else 'distance'}"
    parts = (
        ("mean", "Mean of a layer’s units", words),
        ("deviation", "Standard deviation of a layer’s units", "deviation"),
    )
    return {
        "id": f"sweep-{index}",
        "index": index,
        "average": KINDS.get(kind, kind),
        "shows": SHOWS.get(kind, f"the average of a class ({kind})"),
        "rule": RULES.get(str(sweep.attrs.get("rule")), str(sweep.attrs.get("rule", ""))),
        "against": str(sweep.attrs.get("against", "image")),
        "metric": metric,
        "words": words,
        "larger": larger,
        "nothing": f"{nothing:g}",
        "color": shape[-1] == 3,
        "classes": sweep.classes,
        "shown": [(i, sweep.classes[i]) for i in chosen.classes],
        "side": chosen.side if chosen.side < side else None,
        "units": sum(counts.units),
        "layers": [
            {
                "name": name,
                "short": short[i],
                "units": counts.units[i],
                "shape": times(shapes[i]),
                "dead": counts.share[i],
                "always": counts.always[i],
                "mean": float(np.mean(similarity[name])),
                "live": float(np.nanmean(tables["live"].mean[:, i])) if counts.share[i] < 1 else None,
                "deviation": float(np.mean(tables["all"].deviation[:, i])),
                "low": float(np.min(similarity[name])),
                "high": float(np.max(similarity[name])),
            }
            for i, name in enumerate(sweep.layers)
        ],
        "example": packing.example(sweep, similarity),
        "curves": [
            (
                part,
                title,
                chart(
                    **{
                        key: interactive.curves(
                            getattr(table, part), counts.units, sweep.layers, sweep.classes, chosen.classes, axis
                        )
                        for key, table in tables.items()
                    }
                ),
            )
            for part, title, axis in parts
        ],
        "readings": {
            key: reading.curves(table.mean, short, sweep.classes, larger_is_similar=larger)
            for key, table in tables.items()
        },
        "dead_chart": chart(interactive.dead(counts)),
        "dead_reading": reading.dead(counts._replace(layers=short), len(sweep.classes)),
        "pack": packing.pack(sweep, chosen, larger_is_similar=larger, dead_value=nothing),
        "pictures": [packing.pictures(sweep, name, chosen) for name in sweep.layers],
    }


def pruning(run: Run) -> list[dict[str, Any]]:
    """What removing units did, for each share that was removed.

    Args:
        run: of jaxcam prune.

    Returns:
        What the template shows, one entry for each share.

    Raises:
        ValueError: pruning.csv is missing or broken.
    """
    table = pruning_table(read_csv(run, "pruning.csv"))
    known = Candidates.of_manifest(run.manifest)
    among = known.words if known else ""
    counted = [f"An answer is the largest among {among}; accuracy is the share of right ones."] if among else []
    blocks = []
    for fraction in sorted({entry.fraction for entry in table}):
        entries = [entry for entry in table if entry.fraction == fraction]
        ways = [way for way in ("most", "least", "random") if any(way in e.accuracy for e in entries)]
        live = [way for way in ("most", "least", "random") if any(f"{way}_live" in e.accuracy for e in entries)]
        names = short_names([entry.layer for entry in entries])
        blocks.append(
            {
                "share": f"{fraction:.0%}",
                "among": among,
                "reading": counted
                + reading.pruning([e._replace(layer=n) for e, n in zip(entries, names, strict=True)]),
                "baseline": entries[0].baseline,
                "panels": [
                    (title, chart(interactive.pruning(entries, live=among)))
                    for title, among, found in (
                        (f"{fraction:.0%} of all units removed", False, ways),
                        (f"{fraction:.0%} of the live units removed", True, live),
                    )
                    if found
                ],
                "ways": ways,
                "live_ways": live,
                "rows": [
                    {
                        "layer": name,
                        "units": entry.units,
                        "live": entry.live,
                        "cells": [
                            reading.spread(entry.accuracy[key]) if key in entry.accuracy else "–"
                            for key in (*ways, *(f"{way}_live" for way in live))
                        ],
                    }
                    for entry, name in zip(entries, names, strict=True)
                ],
            }
        )
    return blocks


def reproduce(run: Run) -> dict[str, Any]:
    """The command line of a run, for the directory in which the page is made; its seed and its versions."""
    arguments, module = run.manifest.get("arguments"), None
    if isinstance(arguments, Mapping):
        module = module_path(run, arguments)
        arguments = arguments_here(run, arguments)
        others = {name: value for name, value in arguments.items() if name != "out"}
        arguments = others | {"out": arguments.get("out", f"again/{run.path.resolve().name}")}
    before = f"PYTHONPATH={shlex.quote(module)} " if module else ""
    return {
        "whole": run.command == WHOLE,
        "command": before + command_line(run.command, arguments),
        "seed": run.manifest.get("seed"),
        "versions": run.part("versions"),
    }


def command_line(command: str, arguments: object) -> str:
    """The command as one would type it.

    Args:
        command: its name.
        arguments: what the manifest says: a list of words, or a mapping of options; True is a flag, None and False
            were not given, a list repeats its option. Images that a command takes by their place have no option.

    Returns:
        A line for a shell.

    Example:
        >>> command_line("train", {"data": "digits", "keep_every": None, "resume": True, "kind": ["a b", "c"]})
        "jaxcam train --data digits --resume --kind 'a b' --kind c"
    """
    words = ["jaxcam", command]
    if isinstance(arguments, Mapping):
        for name, value in arguments.items():
            option = "--" + str(name).replace("_", "-")
            items = value if isinstance(value, list | tuple) else [value]
            if POSITIONAL.get(command) == name:
                words[2:2] = map(str, items)
                continue
            for item in items:
                if item is not None and item is not False:
                    words += [option] if item is True else [option, str(item)]
    elif isinstance(arguments, list | tuple):
        words += map(str, arguments)
    return shlex.join(words)


def chart(figure: go.Figure | None = None, **variants: go.Figure) -> str:
    """One chart's figures as JSON, by name; the page draws the first until the reader asks for another."""
    named = variants if figure is None else {"": figure}
    return "{" + ",".join(f'"{name}":{drawn.to_json()}' for name, drawn in named.items()) + "}"


def _measure(metric: str) -> tuple[bool, float]:
    """Whether a metric is a similarity, and its value for a dead unit, as the room that defines it says."""
    return (MEASURES[metric].larger_is_similar, MEASURES[metric].dead) if metric in MEASURES else (True, 0.0)


def _per_class(run: Run) -> dict[str, float]:
    """Accuracy of each class, where the manifest has it: a mapping, or a list beside the class names."""
    values = run.part("results").get("per_class_accuracy")
    if isinstance(values, Mapping):
        return {str(name): float(value) for name, value in values.items()}
    return dict(zip(_classes(run, len(values)), map(float, values), strict=True)) if values else {}


def _classes(run: Run, number: int) -> list[str]:
    names = [str(name) for name in run.part("results").get("classes") or range(number)]
    check_classes(number, names, f"the results of {run.path}")
    return names
