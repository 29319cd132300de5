"""Random numbers of studies that are computed in numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.attribution.asking import check_key


def generator_of(key: Any) -> np.random.Generator:
    """numpy's generator, seeded by JAX's key.

    Args:
        key: `jax.random.key(seed)`.

    Returns:
        The same generator for the same key.

    Raises:
        TypeError: no key.

    Example:
        >>> one, same = generator_of(jax.random.key(3)), generator_of(jax.random.key(3))
        >>> bool(one.random() == same.random())
        True
    """
    check_key(key)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key) if typed else key))
