"""The browser that tests drive, if there is one."""

import shutil

import pytest

sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'jaxcam-xai[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
