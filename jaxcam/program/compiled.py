"""`jax.jit` for jaxcam's own functions, without a fusion that computes wrongly on CPUs.

XLA for CPUs (jaxlib 0.10 and 0.12, at least) hands sums of products to a library, YNNPACK. Where both factors are
smaller arrays spread over the axes of the other, Σₖ wₖ · uₙ as large as (n, h, w, c), what comes out is memory that
nobody wrote: other numbers at every run, 1e16 to 1e37, no error. A matrix product of two arrays of ones spread out
gives zeros as well. `compiled` asks XLA to do without that library; a product of 1024 × 1024 takes as long without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

R = TypeVar("R")
_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


def compiled(function: Callable[..., R], **options: Any) -> Callable[..., R]:
    """The function under `jax.jit`; on CPUs without the fusion above.

    Inside somebody's own `jit`, `grad` or `vmap` JAX takes no options for a part: there it is `jax.jit`.

    Args:
        function: pure.
        **options: of `jax.jit`.

    Returns:
        A function of the same arguments.

    Example:
        >>> compiled(lambda x, power: x**power, static_argnums=1)(jax.numpy.arange(3), 2).tolist()
        [0, 1, 4]
    """
    plain = jax.jit(function, **options)
    guarded = functools.cache(lambda: jax.jit(function, compiler_options=_OPTIONS, **options))

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> R:
        inside = isinstance(jax.device_put(0), jax.core.Tracer)  # within a jit, whatever the arguments are
        leaves = jax.tree_util.tree_leaves((arguments, keywords))
        if inside or not _Known.understood() or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return plain(*arguments, **keywords)
        try:
            return guarded()(*arguments, **keywords)
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
            _Known.option = False  # a version of XLA that has no such fusion
            return plain(*arguments, **keywords)

    # As of what `jax.jit` gives: how many programs were compiled.
    call._cache_size = lambda: plain._cache_size() + guarded()._cache_size()  # type: ignore[attr-defined]
    return call


class _Known:
    """What is known of the version of XLA."""

    option = True

    @classmethod
    def understood(cls) -> bool:
        return cls.option and jax.default_backend() == "cpu"
