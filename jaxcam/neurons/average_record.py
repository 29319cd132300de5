"""What was done to each class average: stretched or not, of how many images, how many steps, and what was reached.

The kinds are not alike: "simple" and "ascent" are stretched to the range of their class, "most" and "least" are plain
means, and ascent may end below its threshold. So what a network says of one kind does not compare with what it says
of another unless this is told beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

STRETCHED = {"simple": True, "most": False, "least": False, "ascent": True}
"""Whether a kind is stretched: each channel to the range of its class's images."""
NAMED = 5
"""So many classes are named in a sentence."""


@dataclasses.dataclass(frozen=True)
class ClassAverages:
    """One average image per class, and what was done to each; made by `average_classes`.

    Attributes:
        kind: "simple", "most", "least" or "ascent".
        images: (classes, h, w, c) float32.
        outputs: the model's output that each class stands for.
        stretched: whether each channel was stretched to the range of its class's images; a channel that is constant in
            the mean never is.
        counts: of how many images each is the mean, (classes,).
        confidence: softmax of its own class over the outputs that compete, in [0, 1], (classes,); None without a model.
        confidences: the same of every output that competes, (classes, outputs); None without a model.
        steps: of ascent, how many led to each picture, (classes,); None of other kinds.
        most_steps: the most that there could be; None of other kinds.
        threshold: the confidence at which ascent stops, in [0, 1]; None of other kinds.
        reached: whether ascent came to its threshold, (classes,); None of other kinds.
    """

    kind: str
    images: Float[Array, "k h w c"]
    outputs: tuple[int, ...]
    stretched: bool
    counts: Int[np.ndarray, " k"]
    confidence: Float[np.ndarray, " k"] | None = None
    confidences: Float[Array, "k o"] | None = None
    steps: Int[np.ndarray, " k"] | None = None
    most_steps: int | None = None
    threshold: float | None = None
    reached: Bool[np.ndarray, " k"] | None = None

    @property
    def competing(self) -> int | None:
        """How many outputs compete in the softmax; None without a model."""
        return None if self.confidences is None else self.confidences.shape[1]

    def to_dict(self) -> dict[str, Any]:
        """What was done and reached, without the images and the confidences in other classes, for a JSON file."""
        names = ("counts", "confidence", "steps", "reached")
        lists = {name: getattr(self, name) for name in names}
        return {
            "stretched": self.stretched,
            "competing": self.competing,
            "most_steps": self.most_steps,
            "threshold": self.threshold,
            **{name: None if values is None else values.tolist() for name, values in lists.items()},
        }

    def summary(self) -> str:
        """What was done to the pictures of all classes, in a few words."""
        return treatment(self.kind, self.to_dict())

    def missed(self, names: Sequence[str], advice: str = "try more steps or a lower threshold") -> str:
        """A sentence where ascent stayed below its threshold, else nothing.

        Args:
            names: of the classes.
            advice: what to try, "" for none.
        """
        return missed(self.to_dict(), names, advice)


def treatment(kind: str, record: Mapping[str, Any], index: int | None = None) -> str:
    """What was done to the average of one class, or to those of all, in a few words.

    Args:
        kind: "simple", "most", "least" or "ascent".
        record: what `ClassAverages.to_dict` gave.
        index: of the class; None for all.

    Example:
        >>> treatment("most", {"stretched": False, "counts": [50, 50], "steps": None})
        'mean of the 50 images with the most confidence, not stretched'
        >>> record = {"stretched": True, "counts": [41, 50], "steps": [0, 200], "threshold": 0.99}
        >>> record |= {"reached": [True, False], "confidence": [0.995, 0.285]}
        >>> treatment("ascent", record)
        'mean of 41 to 50 images, stretched, then 0 to 200 steps of ascent'
        >>> treatment("ascent", record, 1)
        'mean of 50 images, stretched, then 200 steps of ascent: 0.285, below the threshold of 0.99'
    """
    chosen = slice(None) if index is None else slice(index, index + 1)
    counts = _range(record["counts"][chosen])
    of = f"mean of {_plural(counts, 'image')}"
    if kind in ("most", "least"):
        of = f"mean of the {counts} images with the {kind} confidence"
        of = of.replace("the 1 images", "the image")
    words = f"{of}, {'' if record['stretched'] else 'not '}stretched"
    if record.get("steps") is None:
        return words
    words += f", then {_plural(_range(record['steps'][chosen]), 'step')} of ascent"
    if index is None or record.get("reached") is None:
        return words
    if record["reached"][index]:
        return f"{words}: threshold of {record['threshold']:g} reached"
    value = confidence_words(record["confidence"][index])
    return f"{words}: {value}, below the threshold of {record['threshold']:g}"


def missed(record: Mapping[str, Any], names: Sequence[str], advice: str = "") -> str:
    """A sentence where ascent stayed below its threshold in some classes, else nothing.

    Args:
        record: what `ClassAverages.to_dict` gave.
        names: of the classes.
        advice: what to try, "" for none.

    Example:
        >>> record = {"reached": [False, True], "confidence": [0.285, 1.0], "threshold": 0.99, "most_steps": 200}
        >>> missed(record, ["cat", "dog"])
        'Ascent did not reach its threshold of 0.99 within 200 steps in 1 of 2 classes: ‘cat’ 0.285'
    """
    reached = record.get("reached")
    if reached is None or all(reached):
        return ""
    below = [index for index, there in enumerate(reached) if not there]
    below.sort(key=lambda index: record["confidence"][index])
    shown = [f"‘{names[i]}’ {confidence_words(record['confidence'][i])}" for i in below[:NAMED]]
    words = (
        f"Ascent did not reach its threshold of {record['threshold']:g} within "
        f"{_plural(str(record['most_steps']), 'step')} in {len(below)} of {len(reached)} classes: "
        + ", ".join(shown)
        + (", …" if len(below) > NAMED else "")
    )
    return f"{words}; {advice}" if advice else words


def confidence_words(value: float) -> str:
    """A confidence with three decimals, or where these would be zeros or nines with as many as say something.

    Example:
        >>> [confidence_words(value) for value in (0.285, 0.00015, 0.99995, 1.0)]
        ['0.285', '0.00015', '0.99995', '1.000']
    """
    if 0 < value < 0.001:
        return f"{value:.2g}"
    if 0.9995 <= value < 1:
        digits = next((digits for digits in range(4, 9) if float(f"{value:.{digits}f}") < 1), 3)
        return f"{value:.{digits}f}"
    return f"{value:.3f}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _plural(number: str, thing: str) -> str:
    return f"{number} {thing}{'' if number == '1' else 's'}"
