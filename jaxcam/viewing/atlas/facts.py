"""What other commands found about single units and classes: pruning, exciting pictures, explanations of photographs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float

from jaxcam.neurons.candidates import Candidates
from jaxcam.neurons.pruning import ends
from jaxcam.viewing import packing, reading
from jaxcam.viewing.colors import check_channels, finite, picture, reduced
from jaxcam.viewing.runs import Run, read_csv, read_npz
from jaxcam.viewing.tables import Pruned, pruning_table

LONGEST = 224  # pixels of a picture on a unit's page
WAYS = {"most": "most similar", "least": "least similar"}


def pruned(
    runs: Sequence[Run],
    layer: str,
    similarity: Float[np.ndarray, "k u"],
    dead: Bool[np.ndarray, "k u"],
    *,
    larger_is_similar: bool,
) -> list[dict[str, Any]]:
    """For each experiment of `jaxcam prune` with a layer, which units it took away and what that cost.

    Args:
        runs: of jaxcam prune.
        layer: its name.
        similarity: of its units.
        dead: which of them a class does not activate.
        larger_is_similar: False for a distance.

    Returns:
        Entries of `units` and `said`, a sentence that goes on "This unit is".
    """
    found = []
    for run in runs:
        known = Candidates.of_manifest(run.manifest)
        among = f", among {known.words}," if known else ""
        for entry in pruning_table(read_csv(run, "pruning.csv")):
            if entry.layer == layer and entry.units == similarity.shape[1]:
                sets = removed(similarity, dead, entry.fraction, larger_is_similar=larger_is_similar)
                found += [
                    {"units": units.tolist(), "said": _cost(entry, way, among)}
                    for way, units in sets.items()
                    if way in entry.accuracy
                ]
    return found


def removed(
    similarity: Float[np.ndarray, "k u"], dead: Bool[np.ndarray, "k u"], fraction: float, *, larger_is_similar: bool
) -> dict[str, np.ndarray]:
    """Which units `jc.neurons.pruning_study` removes by their similarity.

    Args:
        similarity: (k, u).
        dead: (k, u).
        fraction: the share, in [0, 1].
        larger_is_similar: False for a distance.

    Returns:
        Their numbers for "most" and "least", and the same among live units, "most_live" and "least_live".

    Example:
        >>> removed(np.array([[0.1, 0.9]]), np.zeros((1, 2), bool), 0.5, larger_is_similar=True)["most"].tolist()
        [1]
    """
    scores = (1 if larger_is_similar else -1) * similarity.astype(np.float64)
    scores = scores.mean(0)
    live = np.flatnonzero(~dead.all(0))
    result = {}
    for tail, units in (("", np.arange(len(scores))), ("_live", live)):
        result["most" + tail], result["least" + tail] = ends(scores, units, fraction)
    return result


def _cost(entry: Pruned, way: str, among: str) -> str:
    which, _, live = way.partition("_")
    units = "live units" if live else "units"
    said = f"among the {entry.fraction:.0%} of the layer’s {units} that are {WAYS[which]} on the mean over "
    said += f"classes. Without them the accuracy{among} is {reading.spread(entry.accuracy[way])}"
    others = []
    if entry.baseline is not None:
        others.append(f"whole network {entry.baseline:.2f}")
    random = "random" + ("_live" if live else "")
    if random in entry.accuracy:
        others.append(f"without as many random ones {reading.spread(entry.accuracy[random])}")
    return said + (f" ({'; '.join(others)})." if others else ".")


def exciting(runs: Sequence[Run], layer: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The pictures that `jaxcam maximize` found for units of a layer, and the real ones beside them.

    Args:
        runs: of jaxcam maximize.
        layer: its name; None for the outputs.

    Yields:
        A unit, and `images` (n, h, w, c) and `real` (nine, h, w, c) or None.

    Raises:
        ValueError: maximized.npz is missing.
    """
    for run in runs:
        results = run.part("results")
        if results.get("layer") != layer or any("unit" not in row for row in results["units"]):
            continue
        arrays = read_npz(run, "maximized.npz")
        for index, row in enumerate(results["units"]):
            real = arrays["real"][index] if "real" in arrays else None
            yield int(row["unit"]), {"images": arrays["images"][index], "real": real}


def explained(runs: Sequence[Run]) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """The photographs that `jaxcam explain` explained: what its manifest says of each, and the sheet of its maps."""
    for run in runs:
        for image in run.part("results")["images"]:
            name = f"pictures/{image['name']}.png"
            if (run.path / name).is_file():
                yield image, run.file(name)


def webp(images: Float[np.ndarray, "n h w c"]) -> bytes:
    """Pictures in [0, 1] side by side, as WebP.

    Example:
        >>> webp(np.zeros((2, 4, 4, 1)))[8:12]
        b'WEBP'
    """
    images = check_channels(finite(np.asarray(images, float), "a picture"))
    row = np.concatenate([picture(reduced(image, LONGEST)) for image in images], 1)
    return packing.webp(PIL.Image.fromarray(row))
