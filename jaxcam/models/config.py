"""What has to be known to build a network again: one small frozen record, stored in every checkpoint."""

import dataclasses
import json
import operator
from collections.abc import Sequence
from typing import Any

SMALL = 64
"""The largest image_size, in pixels, that gets a network's small-input form."""

SMALLEST = 8
"""The smallest image_size, in pixels."""

CONVOLUTIONS = {"alexnet": 5, "vgg11": 8, "squeezenet1_1": None, "resnet50": None}
"""The known networks and how many convolutions each has to cut from; None where there is no chain to cut."""

LARGEST_SEED = 2**32 - 1
"""JAX's keys hold 32 bits of a seed: larger ones would repeat the smaller."""

IMAGENET_CLASSES = 1000
"""How many classes torchvision's weights for ImageNet tell apart."""

IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's training images (red, green, blue) in [0, 1], which torchvision's weights expect."""

Normalization = str | Sequence[Sequence[float]] | None


@dataclasses.dataclass(frozen=True)
class Config:
    """Which network, for which images.

    Args:
        name: "alexnet", "vgg11", "squeezenet1_1" or "resnet50".
        classes: k, the number of logits.
        image_size: height and width of the images in pixels, 8 or more. Up to 64 the network takes its
            small-input form, above its ImageNet form.
        channels: c, the number of image channels: 3 for color, 1 for grey.
        convolutions: keep only the first so many convolutions of alexnet (of 5) or vgg11 (of 8); None keeps all.
        normalize: what the network does to its input before anything else: None for nothing, "imagenet" for
            ImageNet's statistics, or (mean, std) with one number a channel for (x - mean) / std.

    Raises:
        ValueError: a value is impossible; the line says what is possible.

    Example:
        >>> config = Config("vgg11", classes=10, image_size=32)
        >>> config.small
        True
        >>> Config.from_json(config.to_json()) == config
        True
    """

    name: str
    classes: int = 1000
    image_size: int = 224
    channels: int = 3
    convolutions: int | None = None
    normalize: Normalization = None

    def __post_init__(self) -> None:
        if self.name not in CONVOLUTIONS:
            raise ValueError(f"no model {self.name!r}; the models are {', '.join(CONVOLUTIONS)}")
        # A frozen record is set once, here, so that a checkpoint's lists and numpy's integers compare and hash alike.
        for field, least in (("classes", 1), ("image_size", SMALLEST), ("channels", 1)):
            object.__setattr__(self, field, whole_number(field, getattr(self, field), least))
        object.__setattr__(self, "convolutions", self._checked_convolutions())
        object.__setattr__(self, "normalize", self._checked_normalize())

    def _checked_convolutions(self) -> int | None:
        most = CONVOLUTIONS[self.name]
        if self.convolutions is None:
            return None
        if most is None:
            cuttable = ", ".join(name for name, count in CONVOLUTIONS.items() if count)
            raise ValueError(
                f"{self.name} is no chain to be cut by convolutions={self.convolutions}; {cuttable} can be cut"
            )
        count = whole_number("convolutions", self.convolutions, 1)
        if count > most:
            raise ValueError(f"convolutions={count}, but {self.name} has {most}; give 1 to {most}")
        return None if count == most else count

    def _checked_normalize(self) -> Normalization:
        if self.normalize is None:
            return None
        if isinstance(self.normalize, str):
            if self.normalize != "imagenet":
                raise ValueError(f"normalize={self.normalize!r} is unknown; give None, 'imagenet' or (mean, std)")
            if self.channels != 3:
                raise ValueError(f"normalize='imagenet' is for 3 channels, not {self.channels}; give (mean, std)")
            return self.normalize
        try:
            mean, std = (tuple(float(value) for value in part) for part in self.normalize)
        except (TypeError, ValueError):
            raise ValueError(
                f"normalize={self.normalize!r} is no pair (mean, std) with {self.channels} numbers in each"
            ) from None
        if not len(mean) == len(std) == self.channels:
            raise ValueError(
                f"normalize has {len(mean)} means and {len(std)} deviations for {self.channels} channels; give one each"
            )
        if not all(value > 0 for value in std):
            raise ValueError(f"normalize has deviations {std}; all must be above 0")
        return mean, std

    @property
    def small(self) -> bool:
        """Whether the network takes its small-input form (image_size up to 64)."""
        return self.image_size <= SMALL

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The (mean, std) in use, one number a channel, or None."""
        if self.normalize is None:
            return None
        if isinstance(self.normalize, str):
            return IMAGENET_STATISTICS
        mean, std = self.normalize
        return tuple(mean), tuple(std)

    def describe(self) -> str:
        """The configuration in a few words, for messages.

        Example:
            >>> Config("vgg11", classes=10, image_size=32, convolutions=4).describe()
            'vgg11 (classes=10, image_size=32, channels=3, convolutions=4)'
        """
        words = f"classes={self.classes}, image_size={self.image_size}, channels={self.channels}"
        if self.convolutions is not None:
            words += f", convolutions={self.convolutions}"
        return f"{self.name} ({words})"

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """The configuration from such a dictionary.

        Raises:
            ValueError: a field is unknown, missing or impossible.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown or "name" not in values:
            raise ValueError(f"the configuration has {'unknown ' + ', '.join(unknown) if unknown else 'no model name'}")
        return cls(**values)

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The configuration from such a line.

        Raises:
            ValueError: it is no JSON, or a field is unknown, missing or impossible.
        """
        return cls.from_dict(json.loads(text))


def whole_number(field: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number from a user, as an int.

    Raises:
        ValueError: it is no whole number, below `least` or above `most`.

    Example:
        >>> whole_number("classes", 10, 1)
        10
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{field}={value!r} is no whole number") from None
    if number < least:
        raise ValueError(f"{field}={number} is too small; give {least} or more")
    if most is not None and number > most:
        raise ValueError(f"{field}={number} is too large; give {most} or less")
    return number
