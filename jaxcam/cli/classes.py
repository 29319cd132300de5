"""What a network's outputs are called, and which of them a user means."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxcam.attribution.targets import per_output
from jaxcam.cli.errors import one_line
from jaxcam.cli.imagenet import IMAGENET, output_of
from jaxcam.cli.networks import Network


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a network says of some images.

    Attributes:
        probabilities: softmax (n, k).
        names: of the outputs; None where nobody says.
    """

    probabilities: np.ndarray
    names: tuple[str, ...] | None

    @property
    def predicted(self) -> np.ndarray:
        """The class with the largest output, for each image (n,)."""
        return self.probabilities.argmax(-1)

    def name(self, output: int | np.integer) -> str:
        """What an output is called."""
        return self.names[output] if self.names else f"class {output}"


def answers(network: Network, images: np.ndarray, names: tuple[str, ...] | None, batch: int) -> Answers:
    """Asks a network what it sees.

    Args:
        network: any.
        images: (n, h, w, c).
        names: of its outputs, where a file gives them; else the network's own.
        batch: images at once.

    Raises:
        ValueError: it does not take the images, gives no logits, or NaN; or there are not as many names as outputs.
    """
    size = "×".join(map(str, images.shape[1:]))
    asked = jax.jit(lambda x: network.model(x))
    logits = []
    for _, part, count in in_batches(images, batch):
        try:
            outputs = asked(part)
        except Exception as error:  # a user's own network may fail in any way
            raise ValueError(f"{network.name} does not take images of {size}: {one_line(error)}") from error
        shape = getattr(outputs, "shape", None)
        if shape is None or len(shape) < 2 or shape[0] != len(part):
            raise ValueError(
                f"{network.name} does not give logits (n, k): of {len(part)} images it makes "
                f"{shape or type(outputs).__name__}"
            )
        logits.append(np.asarray(per_output(outputs), np.float64)[:count])
    values = np.concatenate(logits)
    if not np.isfinite(values).all():
        raise ValueError(f"{network.name} answers NaN or infinity to an image; look at its weights")
    names = names or network.names
    if names is not None and len(names) != values.shape[-1]:
        raise ValueError(f"there are {len(names)} class names, and {network.name} has {values.shape[-1]} outputs")
    odds = np.exp(values - values.max(-1, keepdims=True))
    return Answers(odds / odds.sum(-1, keepdims=True), names)


def in_batches(images: np.ndarray, batch: int) -> list[tuple[slice, np.ndarray, int]]:
    """Where each batch lies, the batch, filled up with its last image to the size of the others, and how many count.

    Example:
        >>> [(rows.start, len(part), count) for rows, part, count in in_batches(np.zeros((5, 2)), 3)]
        [(0, 3, 3), (3, 3, 2)]
    """
    size = min(batch, len(images))
    found = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        count = len(part)
        found.append((slice(start, start + count), part[np.minimum(np.arange(size), count - 1)], count))
    return found


def targets(said: str | None, answers: Answers) -> np.ndarray:
    """The class to be explained, for each image.

    Args:
        said: an output's number or name, or one of WordNet's numbers; None for what is predicted.
        answers: of the network.

    Returns:
        (n,) whole numbers.

    Raises:
        ValueError: there is no such output; the closest name is given.
    """
    if said is None:
        return answers.predicted
    n, k = answers.probabilities.shape
    if re.fullmatch(r"-?\d+", said):
        if not 0 <= int(said) < k:
            raise ValueError(f"--target {said} is out of range: the network has {k} outputs, 0 to {k - 1}")
        return np.full(n, int(said))
    number = output_of(said) if k == IMAGENET else None
    if number is not None:
        return np.full(n, number)
    if answers.names is None:
        raise ValueError(f"--target {said}: nothing names the network's outputs; give a number, or --classes FILE")
    lower = [name.lower() for name in answers.names]
    if said.lower() not in lower:
        near = difflib.get_close_matches(said.lower(), lower, n=1)
        meant = f"; did you mean {answers.names[lower.index(near[0])]!r}?" if near else ""
        raise ValueError(f"no class {said!r} among the {k} there are{meant}")
    return np.full(n, lower.index(said.lower()))


def read_names(path: Path | None) -> tuple[str, ...] | None:
    """Names of outputs from a file: one a line, or tab-separated with the name last and, if at all, its number first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing in it, or numbers that do not count from 0.
    """
    if path is None:
        return None
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} for --classes")
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text; --classes takes one name a line") from error
    if not lines:
        raise ValueError(f"{path} is empty; --classes takes one name a line")
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines]
    if all(len(row) > 1 and row[0].isdigit() for row in cells):
        cells.sort(key=lambda row: int(row[0]))
        if [int(row[0]) for row in cells] != list(range(len(cells))):
            raise ValueError(f"the numbers in {path} do not count the outputs from 0 to {len(cells) - 1}")
    return tuple(row[-1] for row in cells)


def percent(share: float) -> str:
    """A probability for people.

    Example:
        >>> percent(0.9987), percent(0.0312), percent(1e-5)
        ('99.9 %', '3.1 %', '< 0.1 %')
    """
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "< 0.1 %"


def said_of(names: Sequence[str], answers: Answers, explained: np.ndarray) -> list[str]:
    """A title for each image: what it is called, what the network predicts and what is explained."""
    titles = []
    for name, row, best, target in zip(names, answers.probabilities, answers.predicted, explained, strict=True):
        title = f"{name}: predicted {answers.name(best)}, {percent(float(row[best]))}"
        if target != best:
            title += f"; explained {answers.name(target)}, {percent(float(row[target]))}"
        titles.append(title)
    return titles
