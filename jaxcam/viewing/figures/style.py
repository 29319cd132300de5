"""One look for every figure: type, ink, colors, and a sheet of paper measured in inches.

Figures are made with matplotlib's objects, never through pyplot: nothing global is kept, no window opens, and
a thousand figures leave no memory behind. Each function returns its figure; `save` writes it.
"""

import io
import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from jaxcam.files import write_atomically
from jaxcam.viewing.colors import check_channels

INK = "#22252b"
MUTED = "#6d727c"
RULE = "#d9dbe0"
MOST, LEAST, RANDOM = "#c2413b", "#2467a8", "#7b7f88"
# Ten classes that differ in lightness as well as in hue; the markers tell them apart where colors do not.
SERIES = (
    "#2467a8",
    "#d5672b",
    "#2f8f57",
    "#b23a63",
    "#7d5bb0",
    "#159aa8",
    "#8a5a2b",
    "#a88a0b",
    "#5f7f1f",
    "#4b5a78",
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "*")
NAMED = 24
WIDEST = 13.0
FORMATS = (".pdf", ".png", ".svg")

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxcam",
}

P = ParamSpec("P")


class Drawing(Figure):
    """A figure that a notebook shows by itself: IPython draws other figures only once pyplot has been used."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with matplotlib.rc_context(RC):
            self.savefig(file, format="png", dpi=110)
        return file.getvalue()


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Makes a function that draws a figure draw it in the house style, and leaves matplotlib's settings as they were.

    Example:
        >>> styled(lambda: Figure())().get_facecolor()
        (1.0, 1.0, 1.0, 1.0)
    """

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(RC):
            figure = function(*args, **kwargs)
            FigureCanvasAgg(figure)
            return figure

    return draw


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 200) -> Path:
    """Writes a figure, whole or not at all: pixels as .png, vectors as .pdf or .svg, by the path's suffix.

    The same figure gives the same bytes: no date is written.

    Args:
        figure: what a function of this room returned.
        path: where to; its directory must exist.
        dpi: pixels per inch, for .png and for the images inside the others.

    Returns:
        The path written.

    Raises:
        ValueError: another suffix.
        OSError: the directory cannot be written or the disk is full; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Figure(), Path(folder) / "empty.svg").name
        'empty.svg'
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ValueError(f"cannot save a figure as {path.name!r}; the name must end in {', '.join(FORMATS)}")
    metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {"Software": None}}[kind]
    with matplotlib.rc_context(RC):
        return write_atomically(path, lambda file: figure.savefig(file, format=kind[1:], dpi=dpi, metadata=metadata))


def check_classes(number: int, classes: Sequence[str], what: str) -> None:
    """Makes sure that there is one name for each class.

    Example:
        >>> check_classes(10, ["cat", "dog"], "the averages")
        Traceback (most recent call last):
        ...
        ValueError: the averages have 10 classes, but 2 class names were given
    """
    if number != len(classes):
        raise ValueError(f"{what} have {number} classes, but {len(classes)} class names were given")


def short_names(layers: Iterable[str]) -> list[str]:
    """Layer names as short as they can be: the last part of each path where that tells them all apart.

    Args:
        layers: full names, such as `features.conv3`.

    Returns:
        As many names, all different.

    Example:
        >>> short_names(["features.conv0", "features.conv1"]), short_names(["a.conv1", "b.conv1"])
        (['conv0', 'conv1'], ['a.conv1', 'b.conv1'])
    """
    layers = list(layers)
    last = [name.rsplit(".", 1)[-1] for name in layers]
    return last if len(set(last)) == len(layers) and not any(name.isdigit() for name in last) else layers


def shortened(text: str, inches: float, size: float = 8.5) -> str:
    """The text, cut with an ellipsis to what fits into a width.

    Example:
        >>> shortened("a very long class name", 0.6)
        'a very…'
    """
    room = max(2, int(inches / (0.62 * size / 72)))
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def name_layers(axes: Axes, names: Sequence[str]) -> None:
    """Labels the horizontal axis with layers: upright where they fit, turned or thinned where they do not."""
    step = -(-len(names) // NAMED)
    names = [name if step == 1 else name.split("\n")[0] for name in names]
    axes.set_xticks(range(0, len(names), step), names[::step])
    longest = max(len(line) for name in names for line in name.split("\n"))
    if len(names) * longest > 56:
        axes.tick_params(axis="x", labelrotation=90 if len(names) > 16 else 40, labelsize=7)
        for label in axes.get_xticklabels():
            label.set(ha="center" if len(names) > 16 else "right", rotation_mode="anchor" if len(names) <= 16 else None)


class Sheet:
    """A figure on which everything is placed in inches from the top left corner, so that grids of images align.

    Example:
        >>> sheet = Sheet(4.0, 3.0)
        >>> sheet.tile(1.0, 1.0, 0.5, np.zeros((8, 8, 3))).get_extent()
        [1.0, 1.5, 1.5, 1.0]
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Drawing(figsize=(width, height))
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.window = (0, width), (height, 0)

    def tile(self, x: float, y: float, width: float, image: Num[np.ndarray, "h w c"], **options: Any) -> AxesImage:
        """Puts an image with its top left corner at (x, y); its height follows from its shape."""
        rows, columns = check_channels(image).shape[:2]
        height = width * rows / columns
        values = image[..., 0] if image.shape[-1] == 1 else image
        drawn = self.axes.imshow(values, extent=(x, x + width, y + height, y), aspect="auto", **options)
        self.axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=RULE, linewidth=0.5))
        self.axes.set(xlim=self.window[0], ylim=self.window[1])
        return drawn

    def empty(self, x: float, y: float, width: float, height: float, text: str = "") -> None:
        """Marks a place where an image could be and none is."""
        self.axes.add_patch(
            Rectangle((x, y), width, height, facecolor="#f4f5f7", edgecolor=RULE, linewidth=0.5, linestyle=(0, (3, 2)))
        )
        self.text(x + width / 2, y + height / 2, text, color=MUTED, ha="center", va="center", fontsize=7)

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        """Writes a text, by default with its top left corner at (x, y)."""
        self.axes.text(x, y, text, **{"va": "top", "ha": "left", **options})
