"""The browser that tests drive, if there is one."""

import shutil

import pytest

sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'jaxcam-xai[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def watched(browser, address, inside, **context):
    """Opens a page; whatever the browser complains about, or asks for outside `inside`, ends in `page.trouble`."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
    page.trouble = []
    page.on("console", lambda message: page.trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("requestfailed", lambda request: page.trouble.append(f"failed: {request.url[:80]}"))
    page.on("request", lambda request: request.url.startswith(("data:", inside)) or page.trouble.append(request.url))
    page.goto(address)
    return page
