"""The maps of all units as contact sheets: one picture for each layer and class, a tile for each unit that is not dead.

Thousands of units are thousands of pictures, and a browser that opens thousands of files is slow. So a layer's maps for
one class are one file, loaded when that class is looked at. A killed build keeps the sheets it has finished.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from jaxcam.files import write_atomically
from jaxcam.neurons import Sweep
from jaxcam.viewing.colors import DIVERGING, PERCENTILE, check_channels, finite, picture, reduced, to_bytes
from jaxcam.viewing.packing import CLASSES

SIDES = (32, 24, 16, 8)
BUDGET = 30_000_000  # pixels in all: a PNG of one channel takes up to a byte for each, a JPEG up to one and a half
AT_ONCE = 1 << 28  # bytes of raw maps
IDENTITY = "identity.json"

Maps = Callable[[str, Int[np.ndarray, " u"], Int[np.ndarray, " n"]], Float[np.ndarray, "u n h w c"]]
"""(layer, units, classes) ↦ the raw maps of these units on the averages of these classes."""


class Format(NamedTuple):
    """How tiles are kept: height and width in pixels, and the file's ending."""

    tile: tuple[int, int]
    ending: str


@dataclass(frozen=True)
class Sheets:
    """The sheets of one sweep.

    Attributes:
        tile: (height, width) of a map in them.
        columns: of tiles, by layer.
        places: for each layer where each unit is (k, units), counted in rows from 0; −1 for a unit without a picture.
        files: for each layer the file of each class, relative to the atlas; "" where no unit has a picture.
        all: whether every live unit has a picture, and not only the least and the most similar.
    """

    tile: tuple[int, int]
    columns: dict[str, int]
    places: dict[str, Int[np.ndarray, "k u"]]
    files: dict[str, list[str]]
    all: bool


def plan(tiles: int, height: int, width: int, channels: int, budget: int = BUDGET) -> Format:
    """The size and the kind of file that so many maps get.

    Args:
        tiles: how many there are.
        height: of a map, in pixels.
        width: of a map.
        channels: 1 or 3.
        budget: pixels in all.

    Returns:
        The largest tiles that fit. A map of one channel has 256 colors and is kept without loss; one of three is, if
        all fit, and otherwise a JPEG with its colors in full resolution.

    Example:
        >>> plan(27_520, 32, 32, 3), plan(11_520, 32, 32, 1), plan(265_600, 224, 224, 3)
        (Format(tile=(32, 32), ending='jpg'), Format(tile=(32, 32), ending='png'), Format(tile=(8, 8), ending='jpg'))
    """
    longest = max(height, width)
    for side in (min(longest, SIDES[0]), *(side for side in SIDES[1:] if side < longest)):
        tile = (max(1, round(height * side / longest)), max(1, round(width * side / longest)))
        pixels = tiles * tile[0] * tile[1]
        if channels == 3 and 3 * pixels <= budget // 2:
            return Format(tile, "png")
        if pixels <= budget:
            break
    return Format(tile, "png" if channels == 1 else "jpg")


def limits(maps: Float[np.ndarray, "u h w c"]) -> Float[np.ndarray, " u"]:
    """For each of many maps what `colors.limit` says of one.

    Example:
        >>> limits(np.array([[[[0.0]], [[-2.0]]], [[[0.0]], [[0.0]]]])).tolist()
        [2.0, 1.0]
    """
    magnitude = np.abs(finite(maps, "a map")).reshape(len(maps), -1)
    found = np.percentile(magnitude, PERCENTILE, axis=1, method="higher")
    found = np.where(found > 0, found, magnitude.max(1, initial=0))
    return np.where(found > 0, found, 1.0)


def tiles(maps: Float[np.ndarray, "u h w c"], tile: tuple[int, int]) -> UInt8[np.ndarray, "u y x c"]:
    """Maps as bytes, each on its own symmetric scale: 128 is zero, 0 and 255 are ± its limit.

    Args:
        maps: raw, of one channel or three.
        tile: height and width of the result, no larger than the maps'.

    Returns:
        Shape (u, y, x, c), bytes: of one channel, places on the diverging color scale; of three, the colors.

    Raises:
        ValueError: neither one channel nor three, or NaN.

    Example:
        >>> tiles(np.array([[[[-3.0], [0.0], [3.0]]]]), (1, 3)).ravel().tolist()
        [0, 128, 255]
    """
    check_channels(maps)
    scaled = np.clip(0.5 + maps / (2 * limits(maps)[:, None, None, None]), 0, 1)
    if scaled.shape[1:3] != tile:
        # Scaled first: a smaller picture keeps the scale of the whole map.
        scaled = np.stack([reduced(map, max(tile)) for map in scaled])
    return to_bytes(scaled)


def sheet(pictures: UInt8[np.ndarray, "u y x c"], columns: int) -> Image.Image:
    """Tiles in rows, what is left of the last row at zero.

    Args:
        pictures: as `tiles` makes them.
        columns: of tiles.

    Returns:
        The picture; of one channel, in the colors of the diverging scale.

    Example:
        >>> sheet(np.zeros((3, 2, 2, 1), np.uint8), 2).size
        (4, 4)
    """
    number, height, width, channels = pictures.shape
    rows = -(-number // columns)
    grid = np.full((rows * columns, height, width, channels), 128, np.uint8)
    grid[:number] = pictures
    grid = grid.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * height, columns * width, channels)
    if channels == 3:
        return Image.fromarray(np.ascontiguousarray(grid))
    image = Image.fromarray(np.ascontiguousarray(grid[..., 0]))
    image.putpalette(matplotlib.colormaps[DIVERGING](np.arange(256), bytes=True)[:, :3].tobytes())
    return image


def photographs(images: Float[np.ndarray, "n h w c"], path: Path) -> dict[str, Any]:
    """Writes images in [0, 1] as one sheet.

    Args:
        images: of one channel or three.
        path: of a .jpg.

    Returns:
        How to read it: `columns` and the `tile`'s height and width.

    Raises:
        ValueError: neither one channel nor three, or NaN.
    """
    small = np.stack([picture(reduced(finite(image, "an image"), SIDES[0])) for image in images])
    columns = max(1, int(np.ceil(np.sqrt(len(small)))))
    _write(sheet(small, columns), path)
    return {"columns": columns, "tile": list(small.shape[1:3])}


def draw(
    sweep: Sweep,
    folder: Path,
    *,
    where: str,
    maps: Maps | None,
    old: Path | None = None,
    progress: bool = False,
) -> Sheets:
    """Writes the sheets of a sweep, except those that an earlier build of the same has left.

    Args:
        sweep: the store.
        folder: where they go; made if it is not there.
        where: the same, relative to the atlas.
        maps: computes the maps of any unit; None takes the extreme ones that the store keeps.
        old: a folder of an earlier build, whose sheets are copied if they are of the same.
        progress: whether to show a bar on stderr.

    Returns:
        What is where.

    Raises:
        ValueError: maps with NaN, or of neither one channel nor three.
    """
    classes = np.arange(min(len(sweep.classes), CLASSES))
    shown = {layer: _shown(sweep, layer, classes, maps is not None) for layer in sweep.layers}
    height, width, channels = sweep.extremes(sweep.layers[0])[1].shape[2:] if maps is None else sweep.average.shape[1:]
    chosen = plan(sum(int(units.sum()) for units in shown.values()), height, width, channels)
    _prepare(folder, old, _identity(sweep, chosen, maps is not None))
    places, columns, files = {}, {}, {}
    total = sum(units.shape[1] for units in shown.values()) * len(classes)
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("maps of all units" if maps else "maps", total=total)
        for index, (layer, units) in enumerate(shown.items()):
            places[layer] = np.where(units, units.cumsum(1) - 1, -1)
            columns[layer] = max(1, int(np.ceil(np.sqrt(units.sum(1).max()))))
            names = [f"{index}-{k}.{chosen.ending}" if units[k].any() else "" for k in classes]
            files[layer] = [f"{where}/{name}" if name else "" for name in names]
            todo = np.array([k for k in classes if names[k] and not (folder / names[k]).exists()], int)
            bar.advance(task, units.shape[1] * (len(classes) - len(todo)))
            for group in _groups(todo, units.shape[1] * height * width * channels * 4):
                for k, pictures in _pictures(sweep, layer, units, group, chosen.tile, maps):
                    _write(sheet(pictures, columns[layer]), folder / names[k])
                bar.advance(task, units.shape[1] * len(group))
    return Sheets(chosen.tile, columns, places, files, maps is not None)


def _shown(sweep: Sweep, layer: str, classes: np.ndarray, all_units: bool) -> Bool[np.ndarray, "k u"]:
    """Which units of a layer get a picture, for each class."""
    live: np.ndarray = ~sweep.dead(layer)[classes]
    if all_units:
        return live
    extreme = np.zeros_like(live)
    for row, units in zip(extreme, sweep.extremes(layer)[0][classes], strict=True):
        row[units[units >= 0]] = True
    return extreme


def _pictures(
    sweep: Sweep, layer: str, units: np.ndarray, group: np.ndarray, tile: tuple[int, int], maps: Maps | None
) -> list[tuple[int, np.ndarray]]:
    """For each class of a group the tiles of its units, in the order of their numbers."""
    if maps is None:
        numbers, stored = sweep.extremes(layer)
        found = []
        for k in group:
            _, first = np.unique(numbers[k], return_index=True)
            found.append((int(k), tiles(stored[k][[rank for rank in first if numbers[k][rank] >= 0]], tile)))
        return found
    wanted = np.flatnonzero(units[group].any(0))
    computed = np.asarray(maps(layer, wanted, group))
    return [(int(k), tiles(computed[units[k][wanted], i], tile)) for i, k in enumerate(group)]


def _groups(classes: np.ndarray, size: int) -> list[np.ndarray]:
    """The classes in groups whose maps fit into memory together."""
    step = max(1, AT_ONCE // max(size, 1))
    return [classes[start : start + step] for start in range(0, len(classes), step)]


def _write(image: Image.Image, path: Path) -> None:
    options: dict[str, Any] = {"quality": 90, "subsampling": 0} if path.suffix == ".jpg" else {"compress_level": 6}
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    write_atomically(path, lambda file: image.save(file, kind, **options))


def _identity(sweep: Sweep, chosen: Format, all_units: bool) -> dict[str, Any]:
    """What sheets depend on."""
    names = ("identity", "rule", "steps", "average", "layers", "classes", "versions")
    same = {name: sweep.attrs.get(name) for name in names}
    numbers = hashlib.sha256(b"".join(sweep.similarity(layer).tobytes() for layer in sweep.layers)).hexdigest()
    return same | {"tile": list(chosen.tile), "ending": chosen.ending, "all": all_units, "numbers": numbers}


def _prepare(folder: Path, old: Path | None, identity: Mapping[str, Any]) -> None:
    """Makes the folder hold sheets of this identity only: its own, those of an earlier atlas, or none."""
    if not _is_of(folder, identity):
        copied = folder.with_name(f"{folder.name}.partial")
        for left in (folder, copied):
            shutil.rmtree(left, ignore_errors=True)
        if old is not None and _is_of(old, identity):
            shutil.copytree(old, copied)
            copied.rename(folder)
            return
        folder.mkdir(parents=True)
        text = json.dumps(identity, indent=1, sort_keys=True)
        write_atomically(folder / IDENTITY, lambda file: file.write(text.encode()))


def _is_of(folder: Path, identity: Mapping[str, Any]) -> bool:
    path = folder / IDENTITY
    # As JSON, where tuples are lists.
    return path.is_file() and json.loads(path.read_text("utf-8")) == json.loads(json.dumps(identity))
