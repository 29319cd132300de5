"""What a network's outputs are called, and which of them a user means."""

import codecs
import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcam.attribution.targets import per_output
from jaxcam.cli.calling import check_logits, refusal
from jaxcam.cli.errors import failure
from jaxcam.cli.imagenet import IMAGENET, output_of
from jaxcam.cli.networks import Network
from jaxcam.files import instead_of_a_file
from jaxcam.program.compiled import compiled

NUMBER = re.compile(r"-?[0-9]+")


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
    asked = compiled(lambda x: network.model(x))
    logits = []
    for _, part, count in in_batches(images, batch):
        try:
            outputs = asked(part)
        except (Exception, SystemExit) as error:  # a user's own network may fail in any way
            raise ValueError(f"{refusal(network.name, part.shape)}{failure(error)}") from error
        check_logits(outputs, network.name, part.shape)
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
    if NUMBER.fullmatch(said):
        number = int(said)
        if 0 <= number < k:
            check_number(number, said, answers.names)
            return np.full(n, number)
        if answers.names is None or said not in answers.names:
            raise ValueError(f"--target {said} is out of range: the network has {k} outputs, 0 to {k - 1}")
    wordnet = output_of(said) if k == IMAGENET else None
    if wordnet is not None:
        return np.full(n, wordnet)
    if answers.names is None:
        raise ValueError(f"--target {said}: nothing names the network's outputs; give a number, or --classes FILE")
    output = number_of(said, answers.names)
    if output is None:
        near = difflib.get_close_matches(said.lower(), [name.lower() for name in answers.names], n=1)
        meant = f"; did you mean {next(name for name in answers.names if name.lower() == near[0])!r}?" if near else ""
        raise ValueError(f"no class {said!r} among the {k} there are{meant}")
    return np.full(n, output)


def number_of(said: str, names: Sequence[str]) -> int | None:
    """Which of some names a user means: the one written so, else the one that differs by large and small letters only.

    Args:
        said: a name.
        names: of outputs or classes.

    Returns:
        Its number; None where there is none.

    Raises:
        ValueError: several have that name; their numbers are given.

    Example:
        >>> number_of("Crane", ["crane", "heron"]), number_of("stork", ["crane", "heron"])
        (0, None)
    """
    same = [number for number, name in enumerate(names) if name == said]
    same = same or [number for number, name in enumerate(names) if name.lower() == said.lower()]
    if len(same) > 1:
        raise ValueError(f"{len(same)} classes are called {said!r}, {spoken(same)}; give one of these numbers")
    return same[0] if same else None


def check_number(number: int, said: str, names: Sequence[str] | None) -> None:
    """Raises where a number is the name of another output as well."""
    if names is None or said not in names or names[number] == said:
        return
    raise ValueError(
        f"--target {said} may be output {number}, called {names[number]!r}, or output {names.index(said)}, called "
        f"{said!r}; --classes FILE gives them other names"
    )


def spoken(numbers: Sequence[int]) -> str:
    """Numbers in a sentence.

    Example:
        >>> spoken([134, 517]), spoken([1, 2, 3])
        ('134 and 517', '1, 2 and 3')
    """
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def read_names(path: Path | None) -> tuple[str, ...] | None:
    """Names of outputs from a file: one a line, or tab-separated with the name last and, if at all, its number first.

    The file is UTF-8, or UTF-16 that says so by its first two bytes; empty lines are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing in it, no text, a line that names nothing, or numbers that do not count from 0.
    """
    if path is None:
        return None
    if path.is_dir():
        raise ValueError(f"{path} is a folder; --classes takes a file with one name a line")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} for --classes{instead_of_a_file(path)}")
    lines = [line for line in re.split(r"\r\n|\n|\r", text_of(path)) if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty; --classes takes one name a line")
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines]
    unnamed = next((line for line, row in zip(lines, cells, strict=True) if not row[-1]), None)
    if unnamed is not None:
        raise ValueError(f"the line {unnamed!r} of {path} ends in a tab and names nothing; the name is the last column")
    if all(len(row) > 1 and NUMBER.fullmatch(row[0]) for row in cells):
        cells.sort(key=lambda row: int(row[0]))
        if [int(row[0]) for row in cells] != list(range(len(cells))):
            raise ValueError(f"the numbers in {path} do not count the outputs from 0 to {len(cells) - 1}")
    return tuple(row[-1] for row in cells)


def text_of(path: Path) -> str:
    """A text file, whatever its first bytes say of how it is written.

    Raises:
        ValueError: it is no text.
    """
    content = path.read_bytes()
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8; --classes takes one name a line") from error
    if "\0" in text:
        raise ValueError(f"{path} is no text in UTF-8; --classes takes one name a line")
    return text


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
