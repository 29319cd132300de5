"""What an image is compared with: the same image with nothing to be seen on it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.attribution.asking import check_images

Baseline = int | float | np.ndarray | Array | str | None
# The standard deviation of the blurred baseline, as a share of the larger side: nothing smaller can be made out.
BLUR = 0.1


def baseline_of(baseline: Baseline, x: Any, several: bool = False) -> Array:
    """The baseline as an array like x; (b, n, h, w, c) if several are given.

    Args:
        baseline: None for zeros, a number, "blur", an array like x or like one image of it, or (b, n, h, w, c).
        x: images (n, h, w, c).
        several: whether more than one is understood.

    Raises:
        TypeError: images of a wrong kind, or a baseline that is neither number, array nor "blur".
        ValueError: images or baseline of a wrong shape, or not finite.
    """
    check_images(x)
    x = jnp.asarray(x)
    if baseline is None:
        return jnp.zeros_like(x)
    if isinstance(baseline, str):
        if baseline != "blur":
            raise ValueError(f"no baseline '{baseline}'; there are 'blur', None (zeros), a number and an array")
        return blurred(x, BLUR * max(x.shape[1:3]))
    try:
        values = jnp.asarray(baseline, x.dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"a baseline is None, a number, 'blur' or an array; got {type(baseline).__name__}") from error
    fits = values.shape in {(), x.shape, x.shape[1:]} or (several and values.ndim == 5 and values.shape[1:] == x.shape)
    if not fits or 0 in values.shape:
        more = f" or several of these (b, {', '.join(map(str, x.shape))})" if several else ""
        raise ValueError(
            f"a baseline is a number, an array like the images {x.shape}, like one of them {x.shape[1:]}{more}; "
            f"got shape {values.shape}"
        )
    if not isinstance(values, jax.core.Tracer) and not np.isfinite(np.asarray(values)).all():
        raise ValueError("the baseline has NaN or infinite values")
    return values if values.ndim == 5 else jnp.broadcast_to(values, x.shape)


def blurred(x: Array, sigma: Any) -> Array:
    """Images blurred by a Gaussian, mirrored at their edges.

    Each frequency θ of the mirrored image (its cosine transform) is multiplied by exp(−σ²θ²/2): exact for every σ ≥ 0,
    smooth in σ, the image itself at 0 and its mean color for σ → ∞.

    Args:
        x: images (n, h, w, c).
        sigma: the standard deviation in pixels, a number or a traced scalar.
    """
    return jnp.einsum("ij,njwc->niwc", _blur(x.shape[1], sigma, x.dtype), _blur_rows(x, sigma))


def _blur_rows(x: Array, sigma: Any) -> Array:
    return jnp.einsum("ij,nhjc->nhic", _blur(x.shape[2], sigma, x.dtype), x)


def _blur(size: int, sigma: Any, dtype: Any) -> Array:
    """The blur of a row of pixels as a matrix (size, size)."""
    frequencies = np.pi * np.arange(size) / size
    cosines = np.cos(frequencies[:, None] * (np.arange(size) + 0.5)) * np.sqrt(2 / size)
    cosines[0] /= np.sqrt(2)  # now orthonormal
    damped = jnp.exp(-(jnp.asarray(sigma, dtype) ** 2) * jnp.asarray(frequencies**2 / 2, dtype))
    basis = jnp.asarray(cosines, dtype)
    return jnp.einsum("ki,k,kj->ij", basis, damped, basis, precision="highest")
