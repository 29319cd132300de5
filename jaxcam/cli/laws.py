"""What `jaxcam distributions` measures of each layer, and how it is put down."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress

from jaxcam.cli.classes import in_batches
from jaxcam.cli.networks import Network
from jaxcam.cli.photographs import Photographs
from jaxcam.studies import Distributions, distributions, layer_values
from jaxcam.studies.families import FAMILIES
from jaxcam.studies.goodness import certain_tests
from jaxcam.studies.monte_carlo import LEVEL, Resolution, corrections, resolution

Found = Mapping[str, Distributions]
Adjusted = Mapping[tuple[str, str], np.ndarray]


def values_of(
    network: Network, pictures: Photographs, layers: Sequence[str], batch: int, *, progress: bool
) -> dict[str, np.ndarray]:
    """The values of each layer (n, m), batch by batch."""
    parts = in_batches(pictures.images, batch)
    names = list(dict.fromkeys(layers)) or None
    found: dict[str, list[np.ndarray]] = {}
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("the network's values", total=len(parts))
        for _, part, count in parts:
            for name, values in layer_values(network.model, jnp.asarray(part), names).items():
                found.setdefault(name, []).append(values[:count])
            bar.advance(task)
    return {name: np.concatenate(values) for name, values in found.items()}


def measured(
    values: Mapping[str, np.ndarray], names: Sequence[str], seed: int, draws: int, *, progress: bool
) -> dict[str, Distributions]:
    """The tests of each layer, not yet corrected.

    Raises:
        ValueError: an image's values are all the same in a layer, or not enough; the layer and the image are named.
    """
    found = {}
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("testing", total=len(values))
        for index, (layer, rows) in enumerate(values.items()):
            bar.update(task, description=f"testing {layer}")
            constant = np.ptp(rows, axis=1) == 0
            if constant.any():
                name = names[int(np.argmax(constant))]
                raise ValueError(f"{layer} has the same value everywhere on {name}: it has no distribution")
            key = jax.random.fold_in(jax.random.key(seed), index)
            try:
                found[layer] = distributions(rows, key=key, draws=draws, correction="none")
            except ValueError as error:
                raise ValueError(f"{layer}: {error}") from error
            bar.advance(task)
    return found


def able(values: Mapping[str, np.ndarray], draws: int, correction: str) -> Resolution:
    """What the tests of all images, layers and families can tell apart when they are corrected together."""
    tests = len(FAMILIES) * sum(len(rows) for rows in values.values())
    return resolution(draws, tests, correction, level=LEVEL, certain=sum(map(certain_tests, values.values())))


def adjusted(found: Found, correction: str) -> dict[tuple[str, str], np.ndarray]:
    """p-values by layer and family, corrected for all there are."""
    tests = {(layer, family): one.pvalue[family] for layer, one in found.items() for family in FAMILIES}
    together = corrections(np.concatenate(list(tests.values())), correction)
    return dict(zip(tests, np.split(together, len(tests)), strict=True))


def rows(found: Found, adjusted: Adjusted, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each image, layer and family; None where there is no number."""
    return [
        {
            "image": name,
            "layer": layer,
            "law": family,
            "values": one.count,
            "published": float(one.published[family][index]) if family in one.published else None,
            "D": float(one.statistic[family][index]),
            "D_sqrt_n": float(one.d_sqrt_n[family][index]),
            "p": float(one.pvalue[family][index]),
            "p_corrected": float(adjusted[layer, family][index]),
            **{f"parameter_{i}": float(values[index]) for i, values in enumerate(one.parameters[family].values(), 1)},
        }
        for layer, one in found.items()
        for family in FAMILIES
        for index, name in enumerate(names)
    ]


def summary(found: Found, adjusted: Adjusted) -> list[dict[str, Any]]:
    """A row for each layer and family: medians over the images, and how many are not rejected."""
    lines = []
    for layer, one in found.items():
        critical = one.critical(LEVEL)
        for family in FAMILIES:
            possible = one.statistic[family][np.isfinite(one.statistic[family])]
            lines.append(
                {
                    "layer": layer,
                    "values": one.count,
                    "law": family,
                    "published": float(np.median(one.published[family])) if family in one.published else None,
                    "D": float(np.median(possible)) if len(possible) else None,
                    "D√n": float(np.median(possible) * np.sqrt(one.count)) if len(possible) else None,
                    "5 % of D√n": critical[family],
                    "not rejected": int((adjusted[layer, family] > LEVEL).sum()),
                }
            )
    return lines


def said(value: Any) -> str:
    """A cell as a reader sees it: a dash where there is nothing.

    Example:
        >>> said(None), said(0.12345), said(49)
        ('–', '0.123', '49')
    """
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
