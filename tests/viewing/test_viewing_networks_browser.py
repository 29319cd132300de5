"""The index of several networks in a real browser: to each network and back, on a phone, by a reader in the dark."""

import json

import pytest
from browsing import ARGUMENTS, CHROMIUM, sync, watched
from viewing_runs import Maker

from jaxcam.viewing import atlas, report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium"),
]
NAMES = {
    "alexnet": "alexnet",
    "a.long.package.of.mine:factory_of_a_network": "a.long.package.of.mine-factory_of_a_network",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two networks, each with a training and a sweep."""
    maker = Maker(tmp_path_factory.mktemp("networks") / "run")
    for name, folder in NAMES.items():
        for command in ("train", "neurons"):
            path = getattr(maker, command)(maker.made.path / folder / command)
            found = json.loads((path / "manifest.json").read_text())
            (path / "manifest.json").write_text(json.dumps(found | {"model": {"name": name, "fingerprint": name}}))
    return maker.made.path


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def test_one_walks_from_the_index_to_each_network_and_back(runs, browser):
    index = atlas(runs)
    root = index.parent.as_uri()
    page = watched(browser, index.as_uri(), f"{root}/")
    assert page.locator("h1").inner_text() == "The networks of these runs"
    for name, folder in NAMES.items():
        page.get_by_role("link", name=name).click()
        page.wait_for_url(f"**/{folder}/index.html")
        assert page.locator("h1").inner_text() == f"What {name} learned from digits"
        page.get_by_role("link", name="conv1", exact=True).click()
        page.wait_for_url(f"**/{folder}/layer-1.html*")
        page.get_by_role("link", name="All networks").click()
        page.wait_for_url("**/report/index.html")
    assert page.trouble == []


def test_single_pages_link_to_their_index_and_back(runs, browser, tmp_path):
    index = report(runs, tmp_path / "page.html")
    page = watched(browser, index.as_uri(), f"{tmp_path.as_uri()}/")
    for name, folder in NAMES.items():
        page.get_by_role("link", name=name).click()
        page.wait_for_url(f"**/page-{folder}.html")
        page.get_by_role("link", name="All networks").click()
        page.wait_for_url("**/page.html")
    assert page.trouble == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_index_fits_a_phone_and_is_read_in_the_dark(runs, browser, dark):
    index = atlas(runs)
    scheme = {"color_scheme": "dark"} if dark else {}
    page = watched(browser, index.as_uri(), index.parent.as_uri(), viewport={"width": 360, "height": 700}, **scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 22, 26)" if dark else "rgb(252, 252, 251)")
    assert page.trouble == []
