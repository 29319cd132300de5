"""Options that several commands share, worded once."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import click

Decorated = Callable[..., Any]


class Whole(click.ParamType):
    """A whole number of a range; said in an error, not in every line of help."""

    name = "whole number"

    def __init__(self, least: int, most: int = 2**31 - 1) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)
        if number < self.least:
            self.fail(f"{number} is too small; give {self.least} or more", param, ctx)
        if number > self.most:
            self.fail(f"{number} is too large; give {self.most} or less", param, ctx)
        return number


SEED = Whole(0, 2**32 - 1)
"""JAX's keys hold 32 bits of a seed: larger ones would repeat the smaller."""


class Number(click.ParamType):
    """A finite number of a range, its ends included but for those that are `above` or `below` of it."""

    name = "number"

    def __init__(
        self, low: float | int = -math.inf, high: float | int = math.inf, *, above: bool = False, below: bool = False
    ) -> None:
        self.low, self.high, self.above, self.below = low, high, above, below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        if number < self.low or (self.above and number == self.low):
            self.fail(f"{value} is too small; give {self._range()}", param, ctx)
        if number > self.high or (self.below and number == self.high):
            self.fail(f"{value} is too large; give {self._range()}", param, ctx)
        return number

    def _range(self) -> str:
        """What may be given: "a number above 0", "a number from 0 to 1"."""
        least = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        if self.high == math.inf:
            return f"a number {least}" + ("" if self.above else " up")
        if self.above:
            return f"a number {least} and {'below' if self.below else 'up to'} {self.high:g}"
        return f"a number {least} {'to below' if self.below else 'to'} {self.high:g}"


class Size(click.ParamType):
    """An amount of memory with its unit, in bytes."""

    name = "size"
    _UNITS: ClassVar = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value)
        if found is None or found[2].upper() not in self._UNITS:
            self.fail(f"{value!r} is no amount of memory; give a number and a unit, 2GB or 512MB", param, ctx)
        if (size := int(float(found[1]) * self._UNITS[found[2].upper()])) < 1:
            self.fail(f"{value!r} is no memory at all", param, ctx)
        return size


def out(command: Decorated) -> Decorated:
    """`--out` and `--overwrite`, of every command that writes a run directory."""
    for decorate in (
        click.option("--overwrite", is_flag=True, help="Replace the run that is in --out."),
        click.option(
            "--out",
            required=True,
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Directory of this run, new or empty; an unfinished run of the same command goes on.",
        ),
    ):
        command = decorate(command)
    return command


def quiet(command: Decorated) -> Decorated:
    """`--quiet`."""
    return click.option("--quiet", is_flag=True, help="No progress bars and no notes; results and errors only.")(
        command
    )


def network(default: str | None) -> Callable[[Decorated], Decorated]:
    """Which trained network: `--model`, `--weights`, `--image-size`, `--normalize`.

    Args:
        default: what is said of a `--model` that is left out; None where it is required.
    """

    def decorated(command: Decorated) -> Decorated:
        for decorate in (
            normalize,
            click.option(
                "--image-size",
                metavar="PIXELS",
                type=Whole(1),
                help="Height and width of the images; default: the network's own where it says, else that of the data, "
                "and 224 for single photographs.",
            ),
            click.option(
                "--weights",
                metavar="FILE",
                help="For a network given by its name: .safetensors, .pth (needs PyTorch), or owner/repo on the "
                "Hugging Face hub; in torchvision's layout or jaxcam's. The word random explains an untrained network.",
            ),
            click.option(
                "--model",
                metavar="MODEL",
                required=default is None,
                show_default=default or False,
                help="alexnet, vgg11, squeezenet1_1 or resnet50, with --weights; the directory of a training run; a "
                "checkpoint (.safetensors); or package.module:factory, a function without arguments that returns any "
                "callable model.",
            ),
        ):
            command = decorate(command)
        return command

    return decorated


def normalize(command: Decorated) -> Decorated:
    """`--normalize`."""
    return click.option(
        "--normalize",
        type=click.Choice(["auto", "imagenet", "none"]),
        default="auto",
        show_default=True,
        help="What the network does first to images in [0, 1]: subtract ImageNet's mean and divide by its deviation, "
        "or nothing. auto: what a checkpoint says; imagenet for torchvision's weights of 1000 classes; else none.",
    )(command)


def data(default: str | None) -> Callable[[Decorated], Decorated]:
    """Which images: `--data`, `--data-dir`, `--limit`, `--skip-broken`.

    Args:
        default: of `--data`; None for the data that the network was trained on.
    """

    def decorated(command: Decorated) -> Decorated:
        for decorate in (
            click.option("--skip-broken", is_flag=True, help="Leave out pictures that cannot be read, naming them."),
            click.option("--limit", metavar="N", type=Whole(1), help="At most N images, evenly from all classes."),
            click.option(
                "--data-dir",
                metavar="DIR",
                type=click.Path(path_type=Path),
                help="Where the files of mnist, cifar10 or tfds:NAME are, or shall be downloaded to.",
            ),
            click.option(
                "--data",
                metavar="DATA",
                default=default,
                show_default=True if default else "what the network was trained on",
                help="digits, mnist, cifar10, tfds:NAME, or a folder with a subfolder of pictures for each class.",
            ),
        ):
            command = decorate(command)
        return command

    return decorated


def outputs(command: Decorated) -> Decorated:
    """`--outputs`."""
    return click.option(
        "--outputs",
        metavar="I,J,…",
        help="The network's output for each class of the data, in their order; needed where the network has more "
        "outputs than the data has classes and neither names nor ImageNet's numbers (n01440764) tell.",
    )(command)


def candidates(what: str) -> Callable[[Decorated], Decorated]:
    """`--candidates`.

    Args:
        what: the outputs compete in.
    """
    return click.option(
        "--candidates",
        type=click.Choice(["all", "data"]),
        default="all",
        show_default=True,
        help=f"Which of the network's outputs compete in {what}: all, or those of the data's classes only. They differ "
        "where the network has more outputs than the data has classes.",
    )


KEPT = click.option(
    "-k",
    "--images",
    metavar="K",
    type=Whole(1),
    default=50,
    show_default=True,
    help="How many images are averaged for most and least.",
)
"""`-k`, of class averages."""


def limit(command: Decorated) -> Decorated:
    """`--limit`, of photographs without classes."""
    return click.option("--limit", metavar="N", type=Whole(1), help="At most N images, evenly from all.")(command)


def layers(command: Decorated) -> Decorated:
    """`--layer`, repeated."""
    return click.option(
        "--layer",
        "layer",
        multiple=True,
        metavar="NAME",
        help="A layer, as jaxcam layers lists it; may be repeated. Default: every convolution.",
    )(command)


def methods(default: str) -> Callable[[Decorated], Decorated]:
    """How to explain: `--method`, `--layer`, `--option`, `--seed`, `--batch`.

    Args:
        default: what is said of a `--method` that is left out.
    """

    def decorated(command: Decorated) -> Decorated:
        for decorate in (
            click.option("--batch", metavar="N", type=Whole(1), default=8, show_default=True, help="Images at once."),
            click.option(
                "--seed", metavar="N", type=SEED, default=0, show_default=True, help="Of the randomized methods."
            ),
            click.option(
                "--option",
                multiple=True,
                metavar="NAME=VALUE",
                help="Of the methods, such as steps=64, for all that have it, or lime.samples=500 for one; may be "
                "repeated.",
            ),
            click.option(
                "--layer",
                multiple=True,
                metavar="NAME",
                help="For class activation maps, as jaxcam layers lists it; may be repeated. Default: the last "
                "convolution.",
            ),
            click.option(
                "--method",
                multiple=True,
                metavar="NAME",
                show_default=default,
                help="An attribution method, as in docs/reference.md; may be repeated. all: every one that can explain "
                "the network.",
            ),
        ):
            command = decorate(command)
        return command

    return decorated


def classes(command: Decorated) -> Decorated:
    """`--classes`."""
    return click.option(
        "--classes",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Names of the network's outputs, one a line, in their order; needed where the network does not know them.",
    )(command)


def listed(text: str) -> list[str]:
    """The parts of an option that takes several words with commas between them.

    Example:
        >>> listed("simple, most,")
        ['simple', 'most']
    """
    return [part.strip() for part in text.split(",") if part.strip()]
