"""One page that shows a stranger what a network learned.

The page is self-contained: script, style, plotly and every picture are inside, and its content security policy
forbids the browser to fetch anything. So it opens from a disk, from a mail, behind a firewall, in ten years.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from jaxcam.files import write_atomically
from jaxcam.viewing import packing, sections, studied
from jaxcam.viewing.networks import UNNAMED, Reported, pages_of, reported
from jaxcam.viewing.runs import KNOWN, WHOLE, Run
from jaxcam.viewing.studied import STUDIES
from jaxcam.viewing.tables import decimals

ORDER = (*KNOWN, *STUDIES)


def report(
    run_dir: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, network: str | None = None
) -> Path:
    """Writes one self-contained page, report.html, about a run and the runs inside its directory.

    Of several networks each gets a page beside it, and the page itself is their index.

    Args:
        run_dir: what `jaxcam demo`, `train`, `averages`, `neurons`, `prune` or a study left under `--out`. Sections
            appear for those commands whose finished runs are found, at most two levels deep.
        out: the file to write; by default report.html in `run_dir`.
        network: the only one to report, by the name that the index has for it.

    Returns:
        The path written.

    Raises:
        ValueError: no such network; the directory holds no finished run, or an unfinished one, or a file of a run is
            missing.

    Example:
        >>> report("no/such/run")
        Traceback (most recent call last):
        ...
        ValueError: there is no run directory no/such/run; jaxcam demo --out no/such/run makes one
    """
    path = Path(out) if out is not None else Path(run_dir) / "report.html"
    networks = reported(run_dir, network)
    index = path.name if len(networks) > 1 else None
    pages = [contents(entry.runs, run_dir, name=entry.name, index=index) for entry in networks]
    files = pages_of(networks, path, single=True)
    for page, file in zip(pages, files, strict=True):
        _write(file, single_page(page))
    if index:
        _write(path, index_page(networks, pages, [file.name for file in files]))
    return path


def _write(path: Path, html: str) -> None:
    write_atomically(path, lambda file: file.write(html.encode()))


def contents(
    runs: Sequence[Run], run_dir: str | os.PathLike[str], *, name: str | None = None, index: str | None = None
) -> dict[str, Any]:
    """Everything that the templates show of some runs.

    Args:
        runs: of one network.
        run_dir: where, for messages.
        name: what to call the network.
        index: the page of all networks, as a link; None where there is one network only.

    Returns:
        By section.

    Raises:
        ValueError: a run of an unknown command, or a file of a run is missing.
    """
    by = {command: [run for run in runs if run.command == command] for command in ORDER}
    unknown = sorted({run.command for run in runs} - {*by, WHOLE})
    if unknown:
        raise ValueError(f"{run_dir} holds a run of jaxcam {unknown[0]}, which this jaxcam cannot report")
    first = next(run for own in by.values() for run in own)
    asked = [run for command in STUDIES for run in by[command]]
    model, data = first.part("model"), first.part("data")
    page: dict[str, Any] = {
        "model": name or str(model.get("name", UNNAMED)),
        "index": index,
        "data": str(data.get("name", "its data")),
        "trainings": [sections.training(run) for run in by["train"]],
        "averages": [sections.averages(run) for run in by["averages"]],
        "sweeps": [sections.neurons(run, index) for index, run in enumerate(by["neurons"])],
        "prunings": [block for run in by["prune"] for block in sections.pruning(run)],
        "studies": studied.told_apart([studied.section(run, index) for index, run in enumerate(asked)], asked),
        "runs": [sections.reproduce(run) for run in sorted(runs, key=lambda run: _order(run.command))],
        "ramps": packing.ramps(),
        "details": [("Network", _described(model)), ("Data", _described(data))],
    }
    page["facts"] = _facts(model, page)
    return page


def _order(command: str) -> int:
    """The order in which commands build on each other; the demo runs them all."""
    return ORDER.index(command) if command in ORDER else -1


def _facts(model: Mapping[str, Any], page: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers at the head of the page: label and value."""
    facts = []
    if page["trainings"]:
        facts.append(("test accuracy", f"{page['trainings'][0]['accuracy']:.1%}"))
    if isinstance(model.get("parameters"), int):
        facts.append(("parameters", f"{model['parameters']:,}"))
    if page["sweeps"]:
        sweep = page["sweeps"][0]
        dead = sum(layer["always"] for layer in sweep["layers"]) / sweep["units"]
        facts += [("layers", str(len(sweep["layers"]))), ("units", f"{sweep['units']:,}")]
        facts += [("dead for every class", f"{dead:.0%}"), ("classes", str(len(sweep["classes"])))]
    elif "classes" in model:
        facts.append(("classes", str(model["classes"])))
    return facts


def _described(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The entries of a manifest's mapping as words, without those that say nothing to a reader."""
    return [
        (str(name).replace("_", " "), _words(value, name))
        for name, value in part.items()
        if _says_something(name, value)
    ]


def _says_something(name: str, value: object) -> bool:
    long = isinstance(value, list | tuple) and len(value) > 20
    return name != "fingerprint" and value is not None and not isinstance(value, Mapping) and not long


def _words(value: object, name: str = "") -> str:
    shape = isinstance(value, list | tuple) and all(isinstance(item, int) for item in value)
    if isinstance(value, list | tuple) and shape and name != "outputs":
        return " × ".join(map(str, value))
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, which escape whatever comes from a user."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxcam.viewing"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["data"] = _data
    found.filters["decimals"] = decimals
    return found


def source(templates: jinja2.Environment, name: str) -> str:
    """A style sheet or a script as it stands."""
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]


def single_page(page: Mapping[str, Any]) -> str:
    """The page of which nothing is anywhere else."""
    templates = environment()
    files = {"css": "report.css", "js": "report.js", "charts": "charts.js"}
    parts = {key: Markup(source(templates, name)) for key, name in files.items()}
    return templates.get_template("report.html").render(page=page, plotly=Markup(get_plotlyjs()), **parts)


def index_page(networks: Sequence[Reported], pages: Sequence[Mapping[str, Any]], files: Sequence[str]) -> str:
    """The page that links to the pages of several networks.

    Args:
        networks: what the directory holds.
        pages: their `contents`.
        files: where their pages are, relative to this one.
    """
    templates = environment()
    css = Markup(source(templates, "report.css") + source(templates, "atlas/atlas.css"))
    entries = [
        {"network": network, "page": page, "file": quote(file)}
        for network, page, file in zip(networks, pages, files, strict=True)
    ]
    return templates.get_template("networks.html").render(entries=entries, css=css)


def _data(value: object) -> Markup:
    """A value as JSON that may stand inside a script element: text that is JSON already stays as it is."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), allow_nan=False)
    # Within JSON, < occurs in strings only, where its escape means the same and cannot close the element.
    return Markup(text.replace("<", "\\u003c"))
