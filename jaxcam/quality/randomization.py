"""Does a map depend on what the network learned? Its weights are destroyed layer by layer, and the maps compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import skimage.metrics
from jaxtyping import Array

from jaxcam.attribution.asking import check_images, check_key
from jaxcam.attribution.bricks import check_one_of
from jaxcam.attribution.targets import Target
from jaxcam.program.layers import study
from jaxcam.program.trace import split
from jaxcam.quality.asked import as_maps, check_ranks
from jaxcam.quality.stability import check_method, settled_target

ORDERS = ("cascading", "independent")
WAYS = ("permute", "redraw")
# Structural similarity looks at windows of this many pixels, as scikit-image does where nothing else is said.
WINDOW = 7


@dataclasses.dataclass(frozen=True)
class Randomization:
    """How similar maps stay to those of the trained network when its layers are randomized; print it for a table.

    Attributes:
        order: "cascading" or "independent".
        layers: the layers randomized, the one nearest to the outputs first, (l,).
        rank: Spearman's rank correlation of the maps with their sign, (l, n), in [−1, 1].
        absolute_rank: the same of their absolute values, (l, n).
        structure: structural similarity (SSIM) of the maps as pictures, (l, n), in [−1, 1].
    """

    order: str
    layers: tuple[str, ...]
    rank: np.ndarray
    absolute_rank: np.ndarray
    structure: np.ndarray

    def __str__(self) -> str:
        width = max(len("layer"), *map(len, self.layers))
        lines = [f"{'layer':{width}}  rank   |rank|  SSIM   ({self.order}; means over {self.rank.shape[1]} images)"]
        figures = (self.rank, self.absolute_rank, self.structure)
        for name, *means in zip(self.layers, *(figure.mean(1) for figure in figures), strict=True):
            lines.append(f"{name:{width}} " + "  ".join(f"{mean:5.2f}" for mean in means))
        return "\n".join(lines)


def randomization_check(
    model: Any,
    x: Array,
    method: Any,
    target: Target = None,
    *,
    key: Array,
    order: str = "cascading",
    how: str = "permute",
    layers: Sequence[str] | None = None,
) -> Randomization:
    """Whether a method's maps change when what the network learned is destroyed, layer by layer from the top.

    For l = L, L − 1, … 1: similarity(M(f, x), M(f with the parameters of layers l … L randomized, x)); with order
    "independent", those of layer l alone. A method that explains the network cannot keep its maps.

    Args:
        model: a pytree x -> outputs that holds its parameters: a Flax NNX or Equinox module, or
            `jax.tree_util.Partial(apply, variables)`; in inference mode.
        x: images (n, h, w, c), float, as the model takes them.
        method: (model, x, target) ↦ maps: any method of jaxcam, options set by `functools.partial`.
        target: a class for all images or one for each, None for the class that the trained network predicts, or a
            callable outputs -> (n,).
        key: of `jax.random`.
        order: "cascading", each layer and all above it, or "independent", one layer at a time.
        how: "permute", the numbers of each parameter array change places, or "redraw", kernels become normal numbers of
            the same mean and deviation (vectors are permuted even so: a variance must stay positive).
        layers: names of `jc.layers`; None for all that have parameters. A layer's parameters are its kernel, its bias
            and the batch norm that follows.

    Returns:
        A `Randomization`: rank correlations and structural similarity for each layer and image.

    Raises:
        TypeError: images, target or key of a wrong kind; a model without parameters; a method that cannot be called.
        ValueError: no such order, way or layer; a map of the trained network that is constant; what the method raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jax.tree_util import Partial
        >>> from jaxcam import input_x_gradient
        >>> net = Partial(lambda p, x: x.sum((1, 2)) @ p["one"] @ p["two"], {"one": jnp.eye(4), "two": jnp.eye(4)})
        >>> x = jnp.ones((1, 1, 2, 4))
        >>> randomization_check(net, x, input_x_gradient, 0, key=jax.random.key(0)).layers
        ('two', 'one')

    Adebayo et al., "Sanity Checks for Saliency Maps", 2018. Differs from: the paper draws the weights anew as at the
    start of the training, which a model does not say; permuted, they keep their scale. SSIM is of the channels' summed
    absolute values, min–max scaled. When it misleads: a map that follows the edges of the image stays similar to
    itself whatever the network; rank correlation of the signed map is the strictest of the three figures.
    """
    check_images(x)
    check_key(key)
    check_method(method)
    check_one_of(order, ORDERS, "order")
    check_one_of(how, WAYS, "how")
    x = jnp.asarray(x)
    groups = parameters_of_layers(model, x)
    chosen = tuple(groups) if layers is None else tuple(name for name in groups if name in layers)
    if layers is not None and not layers:
        raise ValueError("layers names at least one layer")
    for name in layers or ():
        if name not in groups:
            raise ValueError(f"no layer '{name}' with parameters of its own; there are {', '.join(groups)}")
    target = settled_target(model, x, target)
    trained = as_maps(method(model, x, target))
    check_ranks(trained)
    arrays, static = split(model)
    current = list(arrays)
    figures = []
    for name in chosen:
        start = current if order == "cascading" else list(arrays)
        for i in groups[name]:
            start[i] = _randomized(jnp.asarray(arrays[i]), jax.random.fold_in(key, i), how)
        maps = as_maps(method(static.join(start), x, target))
        figures.append(_figures(np.asarray(trained), np.asarray(maps)))
    rank, absolute_rank, structure = np.stack(figures).transpose(1, 0, 2)
    return Randomization(order, chosen, rank, absolute_rank, structure)


def parameters_of_layers(model: Any, x: Any) -> dict[str, list[int]]:
    """For each layer, the one nearest to the outputs first, the positions of its parameters among the model's arrays.

    A parameter belongs to the first layer whose value is computed from it.

    Raises:
        TypeError: the model has no parameters.
    """
    anatomy, arrays = study(model, x)
    program = anatomy.program
    positions = {value: i for i, value in enumerate(program.inputs[:-1])}
    floating = {i for i, array in enumerate(arrays) if jnp.issubdtype(array.dtype, jnp.floating) and array.size > 1}
    if not floating:
        raise TypeError(
            "the model has no parameters to randomize: a bare closure hides them; hand over a module, or "
            "jax.tree_util.Partial(function, parameters)"
        )
    groups: dict[str, list[int]] = {}
    seen: set[int] = set()
    for place in anatomy.places:
        found = {positions[value] for value in program.leading_to(place.value) if value in positions}
        mine = sorted((found & floating) - seen)
        seen.update(mine)
        if mine:
            groups[place.name] = mine
    return dict(reversed(groups.items()))


def _randomized(array: Array, key: Array, how: str) -> Array:
    if how == "redraw" and array.ndim > 1:
        return array.mean() + array.std() * jax.random.normal(key, array.shape, array.dtype)
    return jax.random.permutation(key, array.reshape(-1)).reshape(array.shape)


def _figures(trained: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The three similarities of each pair of maps, (3, n)."""
    flat, again = (maps.reshape(len(maps), -1) for maps in (trained, other))
    return np.array(
        [
            [_rank_correlation(a, b) for a, b in zip(flat, again, strict=True)],
            [_rank_correlation(np.abs(a), np.abs(b)) for a, b in zip(flat, again, strict=True)],
            [structural_similarity(a, b) for a, b in zip(trained, other, strict=True)],
        ]
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 0 where one of the two is constant, and ranks nothing."""
    ranks = [scipy.stats.rankdata(values) - (len(values) + 1) / 2 for values in (a, b)]
    norms = np.prod([np.linalg.norm(values) for values in ranks])
    return float(ranks[0] @ ranks[1] / norms) if norms else 0.0


def structural_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of two maps as pictures: absolute values, channels summed, min–max scaled.

    Args:
        a: a map (h, w) or (h, w, c).
        b: another.
    """
    pictures = [_picture(values) for values in (a, b)]
    # Each value of a small map becomes a block, so that a window fits.
    times = -(-WINDOW // min(pictures[0].shape))
    first, second = (np.kron(picture, np.ones((times, times))) for picture in pictures)
    return float(skimage.metrics.structural_similarity(first, second, win_size=WINDOW, data_range=1.0))


def _picture(values: np.ndarray) -> np.ndarray:
    picture = np.abs(values.astype(np.float64))
    picture = picture.sum(-1) if picture.ndim == 3 else picture
    picture = picture - picture.min()
    return picture / picture.max() if picture.max() > 0 else picture
