"""How a training went, epoch by epoch: a list that a spreadsheet can open."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcam.files import write_atomically


class Epoch(NamedTuple):
    """One line of a history.

    Args:
        epoch: its number, from 1.
        train_loss: the mean cross entropy, in nats, of the training images as they were trained on: while the weights
            still moved and dropout was on.
        train_accuracy: the share of them classified rightly at that time, in [0, 1].
        test_loss: the mean cross entropy of the test images at the end of the epoch.
        test_accuracy: the share of them classified rightly.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


class History(list[Epoch]):
    """The epochs of a training, first to last.

    Example:
        >>> import tempfile
        >>> history = History([Epoch(1, 0.9, 0.7, 0.5, 0.8), Epoch(2, 0.3, 0.9, 0.4, 0.85)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = history.to_csv(f"{folder}/history.csv")
        ...     print(path.read_text().splitlines()[1], History.from_csv(path) == history)
        1,0.9,0.7,0.5,0.8 True
    """

    def __init__(self, epochs: Iterable[Sequence[Any]] = ()) -> None:
        super().__init__(Epoch(int(row[0]), *(float(value) for value in row[1:])) for row in epochs)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Writes one line for each epoch, under the names of `Epoch`, in digits that read back exactly.

        Args:
            path: where; the file appears whole or not at all.

        Returns:
            The path written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([Epoch._fields, *self])
        return write_atomically(path, lambda file: file.write(text.getvalue().encode()))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> "History":
        """Reads what `to_csv` wrote.

        Args:
            path: the file.

        Returns:
            The history.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is something else, or incomplete.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no history {str(path)!r}; training with jaxcam train writes one")
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if tuple(header) != Epoch._fields:
            raise ValueError(f"{path} is no history: its first line is not {','.join(Epoch._fields)}")
        try:
            if any(len(row) != len(Epoch._fields) for row in rows):
                raise ValueError("a line is cut short")
            return cls(rows)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
