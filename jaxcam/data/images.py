"""From a picture in a file to the array a network takes.

Whatever the file holds, the network gets red, green and blue in [0, 1]: turned as the camera was held, greyscale
repeated, CMYK and palettes converted, what is transparent laid on white, of an animation the first frame. Sixteen bits
are divided by 65535; floating-point pixels are taken as they are and have to lie in [0, 1]. A picture of another shape
gives up its two ends: the largest centered square is what is resized, which is resizing the shorter side and cropping
the center.
"""

import io
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float32, UInt8
from rich.console import Console
from rich.progress import Progress

from jaxcam.files import instead_of_a_file

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
PREPARATION = "largest centered square, antialiased bilinear to {}"
# What pillow raises on files that are cut, mangled or no pictures at all.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, PIL.Image.DecompressionBombError)

Item = TypeVar("Item")


def read_image(
    path: str | os.PathLike[str], size: int | None = 224, *, channels: int = 3
) -> Float32[np.ndarray, "h w {channels}"]:
    """Reads one picture as every picture of an image folder is read.

    Args:
        path: a file that pillow can decode: JPEG, PNG, WebP, BMP, TIFF and others; of several frames the first.
        size: height and width in pixels of what is returned: the largest centered square of the picture, resized with
            an antialiased bilinear filter. None keeps the picture as it is.
        channels: 3 for red, green and blue, 1 for luminance.

    Returns:
        (size, size, channels) float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short or no picture, or its numbers lie outside the range of their kind: floats
            outside [0, 1], whole numbers of 32 bits outside 0 to 65535.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     PIL.Image.new("L", (30, 20), 255).save(f"{folder}/white.png")
        ...     image = read_image(f"{folder}/white.png", size=8)
        >>> image.shape, float(image.min())
        ((8, 8, 3), 1.0)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file {str(path)!r}{instead_of_a_file(path)}")
    try:
        return decode(path, size, channels=channels)
    except UNREADABLE as error:
        raise ValueError(f"cannot read the image {str(path)!r}: {reason(error)}") from error


def resize(images: Float32[np.ndarray, "n h w c"], size: int) -> Float32[np.ndarray, "n {size} {size} c"]:
    """Brings images that are already arrays to another size: the largest centered square, antialiased bilinear.

    The output pixel at p is Σ_q t(q − p') x_q / Σ_q t(q − p') with p' = (p + ½) s − ½, s the ratio of old to new size
    and the triangle t(d) = max(0, 1 − |d| / max(s, 1)): pillow's and JAX's antialiased bilinear filter.

    Args:
        images: (n, h, w, c), any range.
        size: the new height and width, in pixels.

    Returns:
        (n, size, size, c), the same array where nothing is to be done.

    Example:
        >>> resize(np.array([0, 1], np.float32).reshape(1, 1, 2, 1).repeat(2, axis=1), 4)[0, 0, :, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    h, w = images.shape[1:3]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = images[:, top : top + side, left : left + side]
    if side == size:
        return square
    weights = _triangle(side, size)
    resized = np.einsum("yh,nhwc,xw->nyxc", weights, square, weights, optimize=True)
    # A mean cannot leave the range of what it averages; its rounding can.
    return np.clip(resized, images.min(), images.max(), dtype=np.float32)


def to_float(pixels: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Bytes to [0, 1]: divides by 255, in one pass."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def decode(file: Path | io.BytesIO, size: int | None, *, channels: int) -> Float32[np.ndarray, "h w c"]:
    """Decodes one picture to [0, 1], (size, size, channels); raises one of `UNREADABLE` where it cannot."""
    try:
        opened = PIL.Image.open(file)
    except PIL.UnidentifiedImageError as error:
        raise ValueError(_unidentified(file)) from error
    with opened:
        opened.load()
        image = _flatten(PIL.ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
    if size is not None:
        w, h = image.size
        side = min(w, h)
        left, top = (w - side) // 2, (h - side) // 2
        square = image.crop((left, top, left + side, top + side))
        image = square.resize((size, size), PIL.Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if image.mode == "F":  # one channel in [0, 1], deeper than bytes; the rounding of a resize may leave it by a hair
        return np.repeat(np.clip(pixels, 0, 1)[:, :, None], channels, axis=2)
    return to_float(pixels[:, :, None] if pixels.ndim == 2 else pixels)


def decode_all(
    sources: Sequence[Item],
    open_source: Callable[[Item], Path | io.BytesIO],
    size: int,
    *,
    channels: int,
    progress: bool,
) -> tuple[Float32[np.ndarray, "n h w c"], dict[int, str]]:
    """Decodes many pictures on all cores.

    Args:
        sources: what stands for each picture.
        open_source: gives the path or the content of one of them; called in threads.
        size: height and width of the results.
        channels: 1 or 3.
        progress: whether to draw a bar where it takes a while.

    Returns:
        (n, size, size, channels) in [0, 1], black where a picture was unreadable, and the reason by its index.
    """

    def one(index: int) -> str | None:
        try:
            images[index] = decode(open_source(sources[index]), size, channels=channels)
        except UNREADABLE as error:
            return reason(error)
        return None

    images = np.zeros((len(sources), size, size, channels), np.float32)
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        results = list(_watched(pool.map(one, range(len(sources))), len(sources), progress))
    return images, {index: result for index, result in enumerate(results) if result is not None}


def reason(error: BaseException) -> str:
    """Why a file could not be read, in a few words and without its path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _watched(items: Iterable[Item], total: int, progress: bool) -> Iterable[Item]:
    # A few hundred pictures are decoded before a bar could be read.
    with Progress(console=Console(stderr=True), transient=True, disable=not progress or total < 1000) as bar:
        yield from bar.track(items, total=total, description="decoding images")


def _unidentified(file: Path | io.BytesIO) -> str:
    """Why pillow does not know a file."""
    if isinstance(file, Path) and file.open("rb").read(4) in (b"II*\0", b"MM\0*"):
        return "a TIFF of a kind that pillow does not read (such as three channels of floats); save it as PNG"
    return "not a picture"


def _flatten(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    """The picture in bytes, of one channel ("L") or three ("RGB"); what is deeper than bytes as floats ("F")."""
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow's own conversions clip at 255 instead of scaling.
        return PIL.Image.fromarray(_deep(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(paper, image)
    return image.convert(mode)


def _deep(image: PIL.Image.Image) -> Float32[np.ndarray, "h w"]:
    """One channel of more than eight bits, in [0, 1].

    Raises:
        ValueError: numbers that say nothing of what is black and what is white.
    """
    pixels = np.asarray(image)
    kind, most = ("floating-point numbers", 1) if image.mode == "F" else ("whole numbers", 65535)
    if not np.isfinite(pixels).all():
        raise ValueError("it has NaN or infinite values")
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > most:
        hint = "; divide them by 255" if image.mode == "F" and low >= 0 and high <= 255 else ""
        raise ValueError(f"its {kind} must lie in [0, {most}], they range from {low:g} to {high:g}{hint}")
    values = (pixels / most).astype(np.float32)
    clear = image.info.get("transparency")
    return np.where(pixels == clear, np.float32(1), values) if isinstance(clear, int) else values


def _triangle(old: int, new: int) -> Float32[np.ndarray, "{new} {old}"]:
    scale = old / new
    centers = (np.arange(new) + 0.5) * scale - 0.5
    distances = np.abs(np.arange(old)[None, :] - centers[:, None])
    weights = np.maximum(0, 1 - distances / max(scale, 1))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
