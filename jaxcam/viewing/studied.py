"""The report's sections about studies: a question, what was found in words, its figure and its table."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxcam.neurons.candidates import Candidates
from jaxcam.studies.monte_carlo import LEVEL, Resolution, resolution
from jaxcam.viewing.packing import narrowed
from jaxcam.viewing.reading import SMALL_IS_GOOD
from jaxcam.viewing.runs import Run, read_csv

Results = Mapping[str, Any]
DRAWS = {
    "concepts": "random concepts",
    "redundancy": "permutations",
    "distributions": "random samples",
}
"""What the tests of a command draw."""


@dataclass(frozen=True)
class Study:
    """How a command's run is shown.

    Attributes:
        title: the question it answers.
        explanation: what was done, for a stranger.
        picture: its figure.
        alt: what the figure shows.
        table: its table, a CSV file, or "".
        reading: from the manifest's results to sentences.
    """

    title: str
    explanation: str
    picture: str
    alt: str
    table: str
    reading: Callable[[Results], list[str]]


def section(run: Run, index: int) -> dict[str, Any]:
    """What the template shows of one study.

    Args:
        run: of a command in `STUDIES`.
        index: tells the page's studies apart.

    Raises:
        ValueError: a file of the run is missing.
    """
    study = STUDIES[run.command]
    rows = read_csv(run, study.table) if study.table else []
    if run.command == "compare":
        rows = timed(rows, run.part("results").get("methods", []))
    found = study.reading(run.part("results") | _resolution(run) | _candidates(run))
    return {
        "id": f"study-{index}",
        "command": run.command,
        "title": study.title,
        "explanation": study.explanation,
        "picture": embedded(run, study.picture),
        "alt": f"{study.alt} {' '.join(found)}",
        "reading": found,
        "header": list(rows[0]) if rows else [],
        "rows": [[cell(value) for value in row.values()] for row in rows],
        "table": study.table,
    }


def told_apart(sections: list[dict[str, Any]], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The sections, with the names of their runs' folders where several have the same title."""
    titles = [shown["title"] for shown in sections]
    return [
        shown | {"title": f"{shown['title']} ({run.path.resolve().name})"}
        if titles.count(shown["title"]) > 1
        else shown
        for shown, run in zip(sections, runs, strict=True)
    ]


def timed(rows: Sequence[Mapping[str, str]], methods: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of methods with their seconds, which the manifest has: tables are the same in every run.

    Example:
        >>> timed([{"method": "cam", "deletion": "0.2"}], [{"method": "cam", "seconds": 0.5}])
        [{'method': 'cam', 'deletion': '0.2', 'seconds': '0.5'}]
    """
    seconds = {row["method"]: row.get("seconds") for row in methods}
    known = {name: "" if value is None else str(value) for name, value in seconds.items()}
    return [{**row, "seconds": known.get(row["method"], "")} for row in rows]


def embedded(run: Run, name: str) -> str:
    """A figure of a run as a data URI, no wider than it will be shown."""
    return f"data:image/webp;base64,{base64.b64encode(narrowed(run.file(name))).decode()}"


def cell(text: str) -> str:
    """A cell of a table with as many digits as a reader wants.

    Example:
        >>> cell("0.123456789"), cell("17"), cell("conv1"), cell("")
        ('0.123', '17', 'conv1', '–')
    """
    if not text:
        return "–"
    try:
        return text if float(text) == int(float(text)) and "." not in text else f"{float(text):.3g}"
    except (ValueError, OverflowError):
        return text


def counted(number: int, thing: str) -> str:
    """
    Example:
        >>> counted(1, "image"), counted(3, "image")
        ('1 image', '3 images')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _resolution(run: Run) -> dict[str, Any]:
    """What the tests of a run can tell apart; counted from its options where its manifest does not say."""
    results, options = run.part("results"), run.part("arguments")
    if run.command not in DRAWS or "resolution" in results:
        return {}
    if run.command == "concepts":
        able = resolution(options["random_concepts"], len(results["concepts"]), "holm")
    elif run.command == "redundancy":
        able = resolution(options["permutations"])
    else:
        rows = read_csv(run, "distributions.csv")
        impossible = sum(row["D"] in ("", "nan") for row in rows)
        able = resolution(options["draws"], len(rows), options["correction"], certain=impossible)
    return {"resolution": able.to_dict()}


def _candidates(run: Run) -> dict[str, Any]:
    """Which outputs competed in a run of before, as far as its manifest says."""
    known = Candidates.of_manifest(run.manifest)
    return {} if known is None or "candidates" in run.part("results") else {"candidates": known.to_dict()}


def _among(results: Results, words: str) -> str:
    """Words and which outputs competed, where the results say."""
    known = Candidates.of_manifest({"results": results}) if "candidates" in results else None
    return f"{words}{known.words}" if known else ""


def _unable(results: Results, command: str) -> str:
    """A sentence where no result of a command's tests can be significant, else nothing."""
    entry = dict(results.get("resolution") or {})
    if entry.pop("can_reject", True):
        return ""
    return Resolution(**entry).summary(DRAWS[command])


def _explained(results: Results) -> list[str]:
    return [
        f"{image['name']}: seen as “{image['predicted']['class']}” ({image['predicted']['probability']:.0%})"
        + (
            "."
            if image["explained"]["output"] == image["predicted"]["output"]
            else f"; explained as “{image['explained']['class']}” ({image['explained']['probability']:.0%})."
        )
        for image in results["images"][:12]
    ]


def _compared(results: Results) -> list[str]:
    said = []
    for figure in results["figures"]:
        known = [row for row in results["methods"] if row[figure] is not None]
        if len(known) > 1:
            best = (min if SMALL_IS_GOOD[figure] else max)(known, key=lambda row: float(row[figure]))
            said.append(f"By {figure.replace('_', ' ')}, best is {best['method']} ({best[figure]:.3f}).")
    return said


def _components(results: Results) -> list[str]:
    n, h, w = results["maps"]
    kept = (
        f"{counted(results['components'], 'component')} of the {n} maps of {h}×{w} "
        f"({results['method']}) keep {results['share']:.1%} of their variance"
    )
    unable = _unable(results, "redundancy")
    if unable:
        return [f"{kept}.", unable, "So it stays open how many of them are more than noise."]
    return [f"{kept}; {results['significant']} of the leading ones are more than noise."]


def _laws(results: Results) -> list[str]:
    unable = _unable(results, "distributions")
    if unable:
        return [unable, "So it stays open which of the laws the values do not follow."]
    images, said = len(results["images"]), []
    for layer in dict.fromkeys(row["layer"] for row in results["layers"]):
        own = [row for row in results["layers"] if row["layer"] == layer]
        words = ", ".join(f"{row['law']} on {row['not rejected']}" for row in own)
        said.append(f"{layer}: of {counted(images, 'image')}, not rejected at 5 %: {words}.")
    return said


def _pieces(results: Results) -> list[str]:
    images = results["images"]
    largest = max(image["error"] for image in images)
    near = [image["facet"] for image in images if image["facet"] is not None]
    whole = next(row for row in results["sharing"] if row["layer"] == "(whole)")
    said = [
        f"W·x + b is the network to {largest:.0e} on all {counted(len(images), 'image')}.",
        f"They lie in {counted(whole['groups'], 'polytope')}.",
    ]
    return said + ([f"The nearest facet found is {min(near):.2g} of a step away."] if near else [])


def _leaks(results: Results) -> list[str]:
    said = []
    for row in results["checks"]:
        shares = [
            f"{value:.1f} times by {name.removesuffix(' × area')}"
            for name, value in row.items()
            if name.endswith("× area") and value is not None
        ]
        said.append(
            f"{row['network']}: the region has its share of the area {' and '.join(shares) or 'nowhere'}; "
            f"accuracy {row['accuracy']:.1%}, with the region removed {row['removed']:.1%}"
            f"{_among(results, ', among ')}."
        )
    return said


def _groups(results: Results) -> list[str]:
    sizes = ", ".join(map(str, results["groups"]))
    return [
        f"The maps of {counted(results['images'], 'image')} of “{results['class']}” fall into "
        f"{counted(len(results['groups']), 'group')} (of {sizes})."
    ]


def _concepts(results: Results) -> list[str]:
    unable = _unable(results, "concepts")
    if unable:
        return [unable, f"So it stays open whether a concept matters to “{results['class']}”."]
    found = [row for row in results["concepts"] if row["corrected"] <= LEVEL]
    said = [
        f"“{row['concept']}” in {row['layer']} {'raises' if row['rise'] > 0 else 'lowers'} “{results['class']}” "
        f"(TCAV {row['score']:.2f}, p {row['corrected']:.3f} after correction)."
        for row in found
    ]
    return said or [
        f"No concept of {len(results['concepts'])} tested matters to “{results['class']}” at 5 %, corrected."
    ]


def _maximized(results: Results) -> list[str]:
    units = results["units"]
    sure = [row["probability"] for row in units if "probability" in row]
    if not sure:
        return [f"{counted(len(units), 'unit')}, {results['layer'] or 'outputs'}."]
    high = int((np.array(sure) >= 0.9).sum())
    return [f"{high} of {counted(len(sure), 'picture')} are seen as their class with a probability of 0.9 or more."]


def _terrain(results: Results) -> list[str]:
    at = ", ".join(f"{step:.3g}" for step in results["lowest"]["at"])
    said = (
        f"The loss is {results['center']:.4g} at the network, least {results['lowest']['loss']:.4g} at ({at}), and "
        f"greatest {results['highest']:.4g}{_among(results, '; cross-entropy of a softmax over ')}."
    )
    broken = results["not_finite"]
    return [said, f"At {counted(broken, 'point')} it is not finite."] if broken else [said]


STUDIES: dict[str, Study] = {
    "explain": Study(
        "Where does it look?",
        "Each map says which parts of an image spoke for the class that is explained: several methods, side by side.",
        "sheet.png",
        "Images with the maps of several methods.",
        "",
        _explained,
    ),
    "compare": Study(
        "Which maps can be believed?",
        "The better a map, the faster the probability falls when its strongest places are taken from the image "
        "(deletion), and rises when they are put into a blurred one (insertion). Random maps are the control: a method "
        "that does not beat them says nothing.",
        "summary.png",
        "Quality of methods.",
        "summary.csv",
        _compared,
    ),
    "redundancy": Study(
        "In how many ways does it look?",
        "The maps of a class, taken apart into principal components; noise is what components of shuffled maps have.",
        "redundancy.png",
        "Variance of components, and the components as maps.",
        "components.csv",
        _components,
    ),
    "distributions": Study(
        "Which law do its values follow?",
        "For each layer and image, whether the channel means may be normal, log-normal or logistic, with parameters "
        "fitted and the test's null drawn accordingly.",
        "distributions.png",
        "Values of layers with fitted laws.",
        "summary.csv",
        _laws,
    ),
    "linear-piece": Study(
        "What is it around one image?",
        "A network of ReLUs and max pools is exactly linear around each image, up to the facets of a polytope.",
        "linear_piece.png",
        "Images with the weights of their linear piece.",
        "sharing.csv",
        _pieces,
    ),
    "leak-check": Study(
        "Does it cheat?",
        "Attribution inside a region beside the region's share of the area, and the accuracy without it. About 1 is "
        "what a region without meaning gets; several times as much, and an accuracy that falls without it, is a leak.",
        "leaks.png",
        "Attribution in the region and accuracies.",
        "leaks.csv",
        _leaks,
    ),
    "clusters": Study(
        "Does it have several strategies?",
        "Relevance maps of one class, grouped by likeness. A group that looks at the same odd place is worth a look.",
        "clusters.png",
        "Groups of relevance maps.",
        "",
        _groups,
    ),
    "concepts": Study(
        "Does a concept matter?",
        "The direction that tells pictures of a concept from others, and whether going there raises the class: against "
        "random concepts, corrected for their number.",
        "concepts.png",
        "Scores of concepts by layer.",
        "concepts.csv",
        _concepts,
    ),
    "maximize": Study(
        "What excites it most?",
        "Pictures found by gradient ascent, which excite a unit or a class as much as possible, beside real ones.",
        "maximized.png",
        "Pictures that excite units.",
        "units.csv",
        _maximized,
    ),
    "landscape": Study(
        "What does its loss look like?",
        "The loss along random directions of the weights, each filter's as long as the filter; the network is at the "
        "center.",
        "landscape.png",
        "The loss around the network.",
        "",
        _terrain,
    ),
}
"""By command, in the order of the page."""
