"""What all tests share: those that take a minute or more run where JAXCAM_SLOW=1 says so, as .ci/run does.

Tests declare which method they are evidence for, and record the errors they measure: see evidence.py.
"""

import os

import pytest
from evidence import measured, pytest_addoption, pytest_configure, pytest_sessionfinish, pytest_testnodedown

__all__ = ["measured", "pytest_addoption", "pytest_configure", "pytest_sessionfinish", "pytest_testnodedown"]


def pytest_collection_modifyitems(items):
    if os.environ.get("JAXCAM_SLOW") == "1":
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes a minute or more; JAXCAM_SLOW=1 runs it"))
