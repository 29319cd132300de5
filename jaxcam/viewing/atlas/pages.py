"""What each page of an atlas shows, and the files that the pages share.

Links, captions and tables are Jinja's; what a reader chooses (class, order, filter) is the scripts'.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from jaxcam.viewing import packing
from jaxcam.viewing.atlas import classes as of_classes
from jaxcam.viewing.atlas import facts
from jaxcam.viewing.atlas.graph import wires
from jaxcam.viewing.atlas.shown import Shown
from jaxcam.viewing.report import environment, single_page, source
from jaxcam.viewing.runs import Run, times

SCRIPTS = ("charts.js", "atlas/atlas.js", "atlas/layer.js", "atlas/unit.js", "atlas/pages.js")


def write(folder: Path, page: dict[str, Any], runs: Sequence[Run], sweeps: Sequence[Shown]) -> None:
    """Writes all pages and what they share.

    Args:
        folder: of the atlas.
        page: what the single page shows.
        runs: all of them.
        sweeps: those of jaxcam neurons, their sheets drawn.
    """
    templates = environment()
    (folder / "data").mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    css = source(templates, "report.css") + source(templates, "atlas/atlas.css")
    (folder / "style.css").write_text(css, "utf-8")
    for name in SCRIPTS:
        (folder / Path(name).name).write_text(source(templates, name), "utf-8")
    (folder / "plotly.js").write_text(get_plotlyjs(), "utf-8")
    (folder / "summary.html").write_text(single_page(page), "utf-8")

    studies, classes = _studies(page), of_classes.entries(page, runs, sweeps, folder)
    shared = {"page": page, "sweeps": sweeps, "studies": studies, "classes": classes}

    def put(name: str, template: str, **own: Any) -> None:
        html = templates.get_template(f"atlas/{template}").render(**shared, here=name, **own)
        (folder / name).write_text(html, "utf-8")

    _script(folder / "data/index.js", "index", _index(sweeps, classes, studies))
    graphs = [_graph(shown) for shown in sweeps]
    put("index.html", "index.html", graphs=graphs)
    for study in studies:
        put(study["file"], "study.html", study=study)
    for entry in classes:
        put(entry["file"], "class.html", entry=entry)
    pruned = [run for run in runs if run.command == "prune"]
    maximized = [run for run in runs if run.command == "maximize"]
    for shown in sweeps:
        packed = _pack(shown)
        _script(folder / f"data/{shown.prefix}sweep.js", "sweep", _numbers(shown, packed, classes))
        for i, layer in enumerate(shown.section["layers"]):
            found = _layer(shown, i, packed["layers"][i], pruned, maximized, folder)
            _script(folder / f"data/{shown.prefix}layer-{i}.js", "layer", found)
            for kind in ("layer", "units"):
                put(shown.file(i, kind), f"{kind}.html", shown=shown, layer=layer, i=i)


def _script(path: Path, name: str, value: object) -> None:
    """Data as a script: a page opened from a disk may load scripts, but may not read files."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    path.write_text(f"atlas.{name} = {text};\n", "utf-8")


def _index(
    sweeps: Sequence[Shown], classes: Sequence[Mapping[str, Any]], studies: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the search knows."""
    layers = [
        {"short": layer["short"], "name": layer["name"], "units": layer["units"], "file": shown.file(i, "units")}
        | {"page": shown.file(i)}
        for shown in sweeps
        for i, layer in enumerate(shown.section["layers"])
    ]
    pages = [{"name": entry["name"], "file": entry["file"]} for entry in classes]
    asked = [{"name": study["label"], "file": study["file"]} for study in studies]
    return {"layers": layers, "classes": pages, "studies": asked}


def _studies(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The pages that are a section of the single page: its template, a title, a short one, a line."""
    found: list[dict[str, Any]] = []

    def add(template: str, title: str, label: str, line: str, study: Any = None) -> None:
        file = f"study-{len(found)}.html"
        found.append({"file": file, "template": template, "title": title, "label": label, "line": line, "own": study})

    if page["trainings"]:
        add("network.html", "The network and how well it does", "training", page["trainings"][0]["reading"])
    if page["averages"]:
        kinds = [f"{heat['kind']}: {heat['reading']}" for block in page["averages"] for heat in block["confidences"]]
        add("averages.html", "What the network was shown: class averages", "averages", kinds[0] if kinds else "")
    if page["prunings"]:
        said = page["prunings"][0]["reading"]
        add("pruning.html", "Does similarity find the units that matter?", "pruning", said[-1] if said else "")
    for study in page["studies"]:
        add("study.html", study["title"], study["command"], (study["reading"] or [""])[0], study)
    add("closing.html", "Caveats, and how to reproduce this", "about", "What these pages cannot tell.")
    return found


def _graph(shown: Shown) -> dict[str, Any]:
    """The rows of the overview's network, and its lines."""
    of = {layer["name"]: (i, layer) for i, layer in enumerate(shown.section["layers"])}
    dead = {name: shown.sweep.dead(name) for name in shown.sweep.layers}
    rows = []
    for layer in shown.layers:
        row: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "shape": times(layer.shape)}
        if layer.name in of:
            i, own = of[layer.name]
            always, some = dead[layer.name].all(0).mean(), dead[layer.name].any(0).mean()
            row |= {"file": shown.file(i), "own": own, "always": float(always), "some": float(some - always)}
        rows.append(row)
    return {"shown": shown, "rows": rows, "wires": wires([layer.name for layer in shown.layers], shown.edges)}


def _pack(shown: Shown) -> dict[str, Any]:
    """The numbers of all units; of the classes that have maps."""
    classes = list(range(min(len(shown.sweep.classes), packing.CLASSES)))
    section = shown.section
    return packing.pack(
        shown.sweep,
        packing.Plan(classes, 0, False),
        larger_is_similar=section["larger"],
        dead_value=float(section["nothing"]),
    )


def _numbers(shown: Shown, packed: Mapping[str, Any], classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the pages of all layers and units share."""
    files = {entry["name"]: entry["file"] for entry in classes}
    own = {"layers": [], "words": shown.section["words"], "files": [files[name] for name in packed["classes"]]}
    real = shown.real.sheet if shown.real else None
    return {**packed, **own} | {"color": shown.section["color"], "all": shown.sheets.all, "real": real}


def _layer(
    shown: Shown, i: int, packed: dict[str, Any], pruned: Sequence[Run], maximized: Sequence[Run], folder: Path
) -> dict[str, Any]:
    """What the pages of a layer and of its units show."""
    name, sheets, sweep = packed["name"], shown.sheets, shown.sweep
    exciting = {}
    for unit, found in facts.exciting(maximized, name):
        exciting[unit] = of_classes.exciting(folder, f"{shown.prefix}{i}-{unit}", found)
    return packed | {
        "index": i,
        "page": shown.file(i),
        "unitPage": shown.file(i, "units"),
        "tile": list(sheets.tile),
        "columns": sheets.columns[name],
        "files": sheets.files[name],
        "places": base64.b64encode(sheets.places[name].astype("<i2").tobytes()).decode(),
        "removed": facts.pruned(
            pruned, name, sweep.similarity(name), sweep.dead(name), larger_is_similar=shown.section["larger"]
        ),
        "exciting": exciting,
        "real": shown.real.exciting[name].tolist() if shown.real else None,
    }
