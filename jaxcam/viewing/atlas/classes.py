"""What the page of a class shows, and the pictures that excite classes and units."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxcam.neurons.average_record import treatment
from jaxcam.viewing import packing, sections
from jaxcam.viewing.atlas import facts
from jaxcam.viewing.atlas.shown import Shown
from jaxcam.viewing.figures.pictures import KINDS
from jaxcam.viewing.reading import number
from jaxcam.viewing.runs import Run, read_npz

ANSWERS = 3


def exciting(folder: Path, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the pictures that excite a unit and says where they are."""
    (folder / f"images/best-{name}.webp").write_bytes(facts.webp(found["images"]))
    entry: dict[str, Any] = {"best": f"images/best-{name}.webp", "answers": len(found["images"])}
    if found["real"] is not None:
        (folder / f"images/real-{name}.webp").write_bytes(facts.webp(found["real"]))
        entry |= {"real": f"images/real-{name}.webp", "number": len(found["real"])}
    return entry


def entries(
    page: Mapping[str, Any], runs: Sequence[Run], sweeps: Sequence[Shown], folder: Path
) -> list[dict[str, Any]]:
    """Everything about each class, in the order in which runs name them."""
    names = list(dict.fromkeys(name for shown in sweeps for name in shown.sweep.classes[: packing.CLASSES]))
    names += [name for block in page["averages"] for name in block["classes"][: packing.CLASSES] if name not in names]
    accuracy = dict(pair for training in page["trainings"] for pair in training["per_class"])
    found: dict[str, dict[str, Any]] = {
        name: {
            "index": k,
            "name": name,
            "file": f"class-{k}.html",
            "accuracy": accuracy.get(name),
            "averages": [],
            "among": [],
            "portrait": None,
            "extremes": [
                (shown, _extremes(shown, name)) for shown in sweeps if name in shown.sweep.classes[: packing.CLASSES]
            ],
            "photographs": [],
            "exciting": None,
        }
        for k, name in enumerate(names)
    }
    for run in (run for run in runs if run.command == "averages"):
        _averages(found, run)
    for shown in sweeps:
        for name, picture in zip(shown.section["pack"]["classes"], shown.section["pack"]["averages"], strict=True):
            found[name]["portrait"] = found[name]["portrait"] or picture
    for entry in found.values():
        if entry["portrait"] is None and entry["averages"]:
            entry["portrait"] = entry["averages"][0]["picture"]
    for image, path in facts.explained([run for run in runs if run.command == "explain"]):
        about = {_meant(image[which], names) for which in ("explained", "predicted")} & set(found)
        if about:
            file = f"images/explained-{len(list((folder / 'images').iterdir()))}.webp"
            (folder / file).write_bytes(packing.narrowed(path))
            for name in about:
                found[name]["photographs"].append({"file": file, "image": image})
    for output, pictures in facts.exciting([run for run in runs if run.command == "maximize"], None):
        if output < len(names):
            found[names[output]]["exciting"] = exciting(folder, f"class-{output}", pictures)
    return list(found.values())


def _meant(answer: Mapping[str, Any], names: Sequence[str]) -> str:
    """The class of an answer: by its name, or by its number where the network gave it no name."""
    name, output = str(answer["class"]), int(answer["output"])
    return names[output] if name not in names and name == f"class {output}" and output < len(names) else name


def _averages(entries: Mapping[str, dict[str, Any]], run: Run) -> None:
    """Adds the averages of a class, of every kind, and the answers that the network is surest of."""
    images = read_npz(run, "averages.npz")
    confidences = read_npz(run, "confidence.npz") if (run.path / "confidence.npz").exists() else {}
    order = [kind for kind in KINDS if kind in images] + [kind for kind in images if kind not in KINDS]
    classes = [str(name) for name in run.part("results").get("classes") or range(len(images[order[0]]))]
    known = sections.candidates_of(run, confidences)
    names = sections.output_names(run, known, classes)
    records = run.part("results").get("pictures") or {}
    for name in classes:
        if confidences and name in entries and known.words not in entries[name]["among"]:
            entries[name]["among"].append(known.words)
    for kind in order:
        for k, name in enumerate(classes):
            if name not in entries:
                continue
            answers = []
            if kind in confidences:
                values = confidences[kind][k]
                answers = [(names[j], float(values[j])) for j in _answers(values, known.columns[k])]
            picture = packing.photograph(images[kind][k])
            entries[name]["averages"].append(
                {
                    "kind": KINDS.get(kind, kind),
                    "picture": picture,
                    "answers": answers,
                    "among": known.words,
                    "treatment": treatment(kind, records[kind], k) if kind in records else "",
                }
            )


def _answers(values: Float[np.ndarray, " o"], own: int) -> list[int]:
    """The outputs that the network is surest of, and its own class last where it is not among them.

    Example:
        >>> _answers(np.array([0.1, 0.4, 0.2, 0.25, 0.05]), 4)
        [1, 3, 2, 4]
    """
    best = [int(j) for j in np.argsort(-values, kind="stable")[:ANSWERS]]
    return best if own in best else [*best, own]


def _extremes(shown: Shown, name: str) -> list[dict[str, Any]]:
    """For each layer the least and the most similar live units of a class."""
    k = shown.sweep.classes.index(name)
    rows = []
    for i, layer in enumerate(shown.section["layers"]):
        similarity, units = shown.sweep.similarity(layer["name"])[k], shown.sweep.extremes(layer["name"])[0][k]
        half = len(units) // 2
        tiles = [
            {"unit": int(u), "style": shown.thumb(layer["name"], k, int(u)), **_value(float(similarity[u]))}
            for u in units
            if u >= 0
        ]
        low = int((units[:half] >= 0).sum())
        # Highest last, as everywhere: similarity rises from left to right.
        sides = (("least similar", tiles[:low]), ("most similar", tiles[low:][::-1]))
        rows.append({"layer": layer, "file": shown.file(i), "units": shown.file(i, "units"), "sides": sides})
    return rows


def _value(value: float) -> dict[str, str]:
    """A similarity as a caption: with two decimals, and without the zero before them."""
    text = number(value)
    return {"value": text, "short": text.replace("0.", ".", 1)}
