"""From `--method` and `--option` to maps: which methods, with what, batch by batch."""

import ast
import contextlib
import difflib
import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

from jaxcam.attribution import RelevanceWarning
from jaxcam.attribution.methods import METHODS, Method
from jaxcam.cli.classes import in_batches
from jaxcam.cli.networks import Network

OTHERWISE = {"key": "--seed", "layer": "--layer"}
"""What has an option of its own."""

MORE = ("completeness",)
"""What makes a method return more than maps."""

SHORT = 5.0
"""Seconds; what took longer is not asked twice only to be timed."""

Ask = Callable[[Any, Any], Any]


def chosen(names: Sequence[str]) -> list[Method]:
    """Methods by their names, each once; "all" is all of them.

    Raises:
        ValueError: there is no such method, with the closest.
    """
    methods: dict[str, Method] = {}
    for name in names:
        if name == "all":
            methods |= METHODS
        elif name in METHODS:
            methods[name] = METHODS[name]
        else:
            plain = name.lower().replace("-", "_")
            near = difflib.get_close_matches(plain, METHODS, n=1)
            meant = f"did you mean {near[0]!r}? There" if near else "there"
            raise ValueError(f"no method {name!r}; {meant} are {', '.join(METHODS)}")
    return list(methods.values())


def keywords(method: Method) -> list[str]:
    """The options of a method that `--option` may set."""
    parameters = inspect.signature(method.function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*OTHERWISE, *MORE)]


def options_of(methods: Sequence[Method], given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `--option` says to each method.

    Args:
        methods: those that were chosen.
        given: "name=value" for all methods that have such an option, or "method.name=value" for one.

    Returns:
        For each method its keyword arguments.

    Raises:
        ValueError: no name and value, or no chosen method has such an option; the closest is named.
    """
    found: dict[str, dict[str, Any]] = {method.name: {} for method in methods}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--option {text} is no name=value, such as steps=64")
        whose, _, option = name.strip().rpartition(".")
        if whose and whose not in found:
            near = difflib.get_close_matches(whose, found, n=1)
            meant = f"; did you mean {near[0]}.{option}?" if near else ""
            raise ValueError(f"--option {text}: {whose} is not among the methods chosen{meant}")
        if option in OTHERWISE:
            raise ValueError(f"--option {text}: give {OTHERWISE[option]}")
        asked = [method for method in methods if method.name == whose or not whose]
        taking = [method for method in asked if option in keywords(method)]
        if not taking:
            known = sorted({keyword for method in asked for keyword in keywords(method)})
            near = difflib.get_close_matches(option, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            who = asked[0].name if len(asked) == 1 else "none of the methods"
            what = f"has no option {option!r}" if len(asked) == 1 else f"has an option {option!r}"
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise ValueError(f"--option {text}: {who} {what}; {there}{meant}")
        for method in taking:
            found[method.name][option] = read_value(value.strip())
    return found


def read_value(text: str) -> Any:
    """A number, True, None, a tuple, or the text itself; the name of a method is the method.

    Example:
        >>> read_value("64"), read_value("0.5"), read_value("[8, 8]"), read_value("epsilon_plus")
        (64, 0.5, (8, 8), 'epsilon_plus')
    """
    if text in METHODS:
        return METHODS[text].function
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value


def asking(method: Method, network: Network, options: Mapping[str, Any], layer: str | None, seed: int) -> Ask:
    """A method as a function of images and their targets alone."""
    extra: dict[str, Any] = dict(options)
    if method.random:
        extra["key"] = jax.random.key(seed)
    if method.layer and layer is not None:
        extra["layer"] = layer
    return lambda x, target: method.function(network.model, jnp.asarray(x), target, **extra)


def check_layer(layer: Sequence[str], methods: Sequence[Method]) -> None:
    """Raises where a layer is given and no method takes one."""
    if layer and not any(method.layer for method in methods):
        names = ", ".join(method.name for method in methods)
        raise ValueError(f"--layer says nothing to {names}; class activation maps take a layer")


def maps_of(
    methods: Sequence[Method],
    network: Network,
    images: np.ndarray,
    explained: np.ndarray,
    options: Mapping[str, Mapping[str, Any]],
    *,
    layers: Sequence[str] = (),
    seed: int = 0,
    batch: int = 8,
    skip: bool = False,
    timed: bool = False,
    progress: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, str]]:
    """The maps of several methods.

    Args:
        methods: which.
        network: what is explained.
        images: (n, h, w, c).
        explained: the class of each (n,).
        options: for each method its own.
        layers: for methods that take one; none for their default.
        seed: of the randomized methods.
        batch: images at once.
        skip: leave out a method that cannot explain this network, in place of failing.
        timed: compiling shall not count: the first batch is asked about twice where that is short, else left out.
        progress: show a bar.

    Returns:
        Maps (n, …) by the method's name ("name:layer" where there are several), seconds for each image by the method's
        name, and why methods were left out.

    Raises:
        ValueError: what the methods raise, with the method's name.
    """
    maps: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    parts = in_batches(images, batch)
    with (
        _relevance_warned_of_once(),
        Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        task = bar.add_task("explaining", total=len(methods) * len(parts))
        for method in methods:
            bar.update(task, description=method.name)
            try:
                found, seconds[method.name] = _one(
                    method, network, parts, explained, options[method.name], layers, seed, timed, bar, task
                )
                maps |= found
            except (ValueError, TypeError) as error:
                if not skip:
                    raise ValueError(f"{method.name}: {error}") from error
                left_out[method.name] = str(error)
    return maps, seconds, left_out


@contextlib.contextmanager
def _relevance_warned_of_once() -> Iterator[None]:
    """Of the warnings of many batches that relevance was lost, says the first, when all is done."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    relevance = [each for each in caught if issubclass(each.category, RelevanceWarning)]
    for each in [*(other for other in caught if other not in relevance), *relevance[:1]]:
        warnings.showwarning(each.message, each.category, each.filename, each.lineno)


def _one(
    method: Method,
    network: Network,
    parts: Sequence[tuple[slice, np.ndarray, int]],
    explained: np.ndarray,
    options: Mapping[str, Any],
    layers: Sequence[str],
    seed: int,
    timed: bool,
    bar: Progress,
    task: Any,
) -> tuple[dict[str, np.ndarray], float]:
    """The maps of one method on all batches, and its seconds for each image."""
    several = list(layers) if method.layer and layers else [None]
    found: dict[str, list[np.ndarray]] = {}
    spent: dict[str | None, list[float]] = {layer: [] for layer in several}
    for rows, part, count in parts:
        target = _filled(explained[rows], len(part))
        for layer in several:
            ask = asking(method, network, options, layer, seed)
            answer, took = _timed(ask, part, target)
            if timed and rows.start == 0 and took < SHORT:
                answer, took = _timed(ask, part, target)
            elif timed and rows.start == 0 and len(parts) > 1:
                took = math.nan
            spent[layer].append(took)
            named = answer if isinstance(answer, dict) else {layer if len(several) > 1 else "": answer}
            for place, values in named.items():
                name = f"{method.name}:{place}" if place else method.name
                found.setdefault(name, []).append(np.asarray(values)[:count])
        bar.advance(task)
    seconds = sum(float(np.nanmean(values)) for values in spent.values()) / len(parts[0][1])
    return {name: np.concatenate(values) for name, values in found.items()}, seconds


def _timed(ask: Ask, part: np.ndarray, target: np.ndarray) -> tuple[Any, float]:
    """The answer to one batch and its seconds."""
    begun = time.perf_counter()
    answer = jax.block_until_ready(ask(part, target))
    return answer, time.perf_counter() - begun


def _filled(explained: np.ndarray, size: int) -> np.ndarray:
    """The targets of a batch, its last repeated as its last image is."""
    return explained[np.minimum(np.arange(size), len(explained) - 1)]
