"""What all tests share.

Networks in tests are small: XLA's optimizations of them take longer than they save, so tests run without; with
JAXCAM_OPTIMIZE=1 they run with them. Tests that take long, or say again for more cases what another test says for one,
are marked slow and run where JAXCAM_SLOW=1 says so. `.ci/run` does either in a stage of its own. Tests declare which
method they are evidence for, and record the errors they measure: see evidence.py.
"""

import ctypes
import gc
import os
import sys

if os.environ.get("JAXCAM_OPTIMIZE") != "1":
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for the processes that tests start

import jax
import psutil
import pytest
from evidence import measured, pytest_addoption, pytest_configure, pytest_sessionfinish, pytest_testnodedown

__all__ = ["measured", "pytest_addoption", "pytest_configure", "pytest_sessionfinish", "pytest_testnodedown"]

# Tracing makes many objects that stay: looking through them for garbage as often as usual takes a fifth of the time.
gc.set_threshold(200_000, 50, 100)

if os.environ.get("JAXCAM_OPTIMIZE") != "1":
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _optimized(request):
    """Tests marked `optimized` compute more than they compile, or ask for equality to the bit between two programs."""
    if request.node.get_closest_marker("optimized") is None:
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# What a test process may hold: compiled programs stay, and thousands of tests compile gigabytes of them.
MOST = 3 << 30


@pytest.fixture(autouse=True, scope="module")
def _forgotten():
    yield
    if psutil.Process().memory_info().rss > MOST:
        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux":  # what is free goes back to the system
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def compiled():
    """How many programs XLA compiled since the test began."""
    count = []

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            count.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(count)
    jax.monitoring.unregister_event_duration_listener(listen)


def pytest_collection_modifyitems(items):
    if os.environ.get("JAXCAM_SLOW") == "1":
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes a minute or more; JAXCAM_SLOW=1 runs it"))
