"""The atlas in a real browser: from the overview to a layer, a unit and a class, by hand, by keyboard, on a phone."""

import numpy as np
import pytest
from browsing import ARGUMENTS, CHROMIUM, sync, watched
from viewing_runs import Maker

from jaxcam.program import Layer
from jaxcam.viewing import Probe, atlas

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium"),
]
PAGES = ("index.html", "layer-1.html", "units-1.html#3", "class-1.html", "study-2.html")


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    maker = Maker(tmp_path_factory.mktemp("atlas") / "run", classes=("ant", "<b>bee</b>", "cat"), units=(12, 40, 24))
    made = maker.demo()
    noise = lambda layer, units, classes: maker.noise((len(units), len(classes), 8, 8, 1)) - 0.5
    layers = [Layer(name, "conv", (8, 8, 40), 40) for name in made.layers]
    edges = [("", made.layers[0]), (made.layers[0], made.layers[1]), (made.layers[1], made.layers[2])]
    edges.append((made.layers[0], made.layers[2]))
    images = maker.noise((20, 8, 8, 1))
    nine = lambda layer: np.array([[-1] * 9 if unit == 1 else range(unit % 8, unit % 8 + 9) for unit in range(40)])
    atlas(made.path, probe=lambda run: Probe(noise, layers, edges, images=images, exciting=nine))
    return made


@pytest.fixture(scope="module")
def visit(browser, demo):
    """Opens a page; whatever the browser complains about or asks for outside the folder ends in `page.trouble`."""

    def visit(name="index.html", **context):
        root = (demo.path / "report").as_uri()
        return watched(browser, f"{root}/{name}", f"{root}/", **context)

    return visit


@pytest.fixture(scope="module")
def opened(visit):
    return visit()


@pytest.fixture
def at(opened, demo):
    """Goes to a page as if it was opened anew."""

    def at(name):
        opened.goto("about:blank")
        opened.goto(f"{(demo.path / 'report').as_uri()}/{name}")
        return opened

    return at


def numbers(page):
    """The units shown, in their order."""
    return [int(text.removeprefix("#")) for text in page.locator("[data-units] i").all_inner_texts()]


def test_one_walks_from_the_overview_to_a_layer_a_unit_and_a_class(at, demo):
    page = at("index.html")
    page.get_by_role("link", name="conv1", exact=True).click()
    page.wait_for_url("**/layer-1.html*")
    similarity = demo.similarity[demo.layers[1]]
    first = page.locator("[data-units] a").first
    best = int(similarity[0].argmax())
    assert first.get_attribute("title") == f"unit {best}: {similarity[0, best]:.3f}"
    assert first.locator("[role=img]").get_attribute("aria-label") == f"map of unit {best} of conv1 for ant"
    first.click()
    page.wait_for_url(f"**/units-1.html#{best}")
    assert page.inner_text("h1") == f"conv1, unit {best}"
    rows = page.locator("[data-classes] tr")
    assert rows.count() == 3
    dead = demo.dead[demo.layers[1]][2, best]
    amount = "dead" if dead else f"{similarity[2, best]:.3f}".replace("-", "−")
    assert rows.nth(2).locator(".amount").inner_text() == amount
    rows.nth(1).get_by_role("link").click()
    page.wait_for_url("**/class-1.html")
    assert page.inner_text("h1") == "Class “<b>bee</b>”"
    page.get_by_role("link", name="Overview").click()
    page.wait_for_url("**/index.html")
    assert page.trouble == []


def test_a_layer_lists_every_unit_and_marks_the_dead(at, demo):
    page = at("layer-1.html")
    assert sorted(numbers(page)) == list(range(40))
    dead = demo.dead[demo.layers[1]][0]
    assert page.locator("[data-units] .thumb.dead").count() == dead.sum()
    assert page.locator("[data-readout]").inner_text() == "40 of 40 units; class “ant”, most similar first."


def test_units_are_sorted_and_filtered_as_asked(at, demo):
    page = at("layer-1.html")
    similarity, dead = demo.similarity[demo.layers[1]], demo.dead[demo.layers[1]]
    live = [unit for unit in similarity[0].argsort(kind="stable") if not dead[0, unit]]
    assert numbers(page)[: len(live)] == live[::-1]
    page.select_option("[data-sort]", "low")
    assert numbers(page)[: len(live)] == live
    page.select_option("[data-show]", "live")
    assert numbers(page) == live
    page.select_option("[data-show]", "dead")
    assert numbers(page) == dead[0].nonzero()[0].tolist()
    page.select_option("[data-show]", "always")
    assert numbers(page) == dead.all(0).nonzero()[0].tolist()
    page.select_option("[data-show]", "own")
    alone = [[-2 if dead[k, unit] else similarity[k, unit] for k in range(3)] for unit in range(40)]
    assert sorted(numbers(page)) == [u for u, of in enumerate(alone) if max(of) > -2 and of.index(max(of)) == 0]
    page.select_option("[data-show]", "all")
    page.select_option("[data-sort]", "unit")
    assert numbers(page) == list(range(40))
    page.select_option("[data-sort]", "mean")
    mean = similarity.mean(0)
    assert numbers(page)[0] == max((u for u in range(40) if not dead[:, u].all()), key=lambda u: mean[u])


def test_choosing_a_class_shows_its_maps_and_is_kept_in_the_address(at, demo):
    page = at("layer-1.html")
    sheet = "getComputedStyle(document.querySelector('[data-units] .thumb:not(.dead)')).backgroundImage"
    assert page.evaluate(sheet).endswith('maps/0/1-0.png")')
    page.locator("[data-pick] label").nth(2).click()
    assert page.evaluate(sheet).endswith('maps/0/1-2.png")')
    best = int(demo.similarity[demo.layers[1]][2].argmax())
    assert numbers(page)[0] == best
    assert page.evaluate("location.hash") == "#class=2"
    page.reload()
    assert numbers(page)[0] == best


def test_each_picture_is_a_tile_of_a_sheet_that_is_there(at):
    page = at("layer-1.html")
    off = page.evaluate(
        """async () => {
          const wrong = [];
          for (const thumb of document.querySelectorAll('[data-units] .thumb:not(.dead)')) {
            const style = getComputedStyle(thumb), image = new Image();
            image.src = style.backgroundImage.slice(5, -2);
            await image.decode();
            const size = image.naturalWidth * thumb.clientWidth / 8;
            const [x, y] = style.backgroundPosition.split(' ').map(parseFloat);
            if (Math.abs(parseFloat(style.backgroundSize) - size) > 0.5) wrong.push(style.backgroundSize);
            if (-x + thumb.clientWidth > size + 0.5 || -y % thumb.clientWidth > 0.5) wrong.push(`${x} ${y}`);
          }
          return wrong;
        }"""
    )
    assert off == []


def test_a_unit_is_found_by_its_number(at):
    page = at("layer-1.html")
    page.fill("[data-unit]", "17")
    assert page.locator(".sought i").inner_text() == "#17"
    page.fill("[data-unit]", "99")
    assert page.locator("[data-readout]").inner_text() == "there are the units 0 to 39."
    page.fill("[data-unit]", "17")
    page.press("[data-unit]", "Enter")
    page.wait_for_url("**/units-1.html#17")


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ("conv2 5", "**/units-2.html#5"),
        ("features.conv1/17", "**/units-1.html#17"),
        ("CONV2", "**/layer-2.html"),
        ("cat", "**/class-2.html"),
        ("pruning", "**/study-2.html"),
    ],
)
def test_the_search_finds_layers_units_classes_and_studies(at, typed, where):
    page = at("class-0.html")
    page.keyboard.press("/")
    page.keyboard.type(typed)
    page.keyboard.press("Enter")
    page.wait_for_url(where)


def test_a_search_in_vain_says_what_can_be_searched(at):
    page = at("index.html")
    for typed, said in (("conv2 99", "conv2 has the units 0 to 23"), ("dog", "nothing is called “dog”: type a layer")):
        page.fill("#search", typed)
        page.press("#search", "Enter")
        assert page.inner_text("[data-trouble]").startswith(said)


def test_the_keyboard_alone_reaches_everything(at, demo):
    page = at("layer-1.html")
    page.locator("[data-units] a").first.focus()
    order = numbers(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    columns = page.evaluate(
        "(() => { const t = [...document.querySelectorAll('[data-units] a')].map(a => a.offsetTop);"
        " return t.filter(y => y === t[0]).length })()"
    )
    focused = page.evaluate("Number(document.activeElement.dataset.unit)")
    assert focused == order[1 + columns]
    page.keyboard.press("c")
    assert page.evaluate("location.hash") == "#class=1"
    page.keyboard.press("Shift+C")
    page.locator("[data-units] a").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/units-1.html#{order[0]}")
    page.keyboard.press("n")
    page.wait_for_url(f"**/units-1.html#{order[0] + 1}")
    assert page.inner_text("h1") == f"conv1, unit {order[0] + 1}"
    page.keyboard.press("u")
    page.wait_for_url("**/layer-1.html")
    page.keyboard.press("n")
    page.wait_for_url("**/layer-2.html")
    page.keyboard.press("u")
    page.wait_for_url("**/index.html")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_a_point_of_a_curve_leads_to_its_layer(at):
    page = at("index.html")
    page.locator(".curves").first.scroll_into_view_if_needed()
    page.wait_for_selector(".curves svg path", state="attached")
    page.evaluate("document.querySelector('.curves').emit('plotly_click', { points: [{ x: 'conv2' }] })")
    page.wait_for_url("**/layer-2.html")


def test_a_unit_shows_the_real_images_that_excite_it(at):
    page = at("units-1.html#3")
    shown = page.locator("[data-exciting] .thumb")
    assert shown.count() == 9
    assert shown.first.get_attribute("aria-label").startswith("image 3 of the data, number 1 of those")
    at("units-1.html#1")
    assert page.inner_text("[data-exciting]") == "None of 20 real images activates this unit."


def test_a_unit_says_what_removing_it_costs(at, demo):
    scores = demo.similarity[demo.layers[0]].astype(float).mean(0)
    page = at(f"units-0.html#{scores.argmax()}")
    # The made table speaks of 20 units, this layer has 12: no experiment is about them.
    assert page.inner_text("[data-removed]").startswith("No experiment removed this unit")


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 1280), *(pytest.param(*one, marks=pytest.mark.slow) for one in (("dark", 1280), ("light", 390)))],
)
def test_pages_draw_without_a_complaint_a_request_or_a_scroll_bar(visit, tmp_path, scheme, width):
    phone = {"is_mobile": True, "has_touch": True} if width == 390 else {}
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme, **phone)
    root = page.url.rpartition("/")[0]
    pictures = set()
    for name in PAGES:
        page.goto("about:blank")
        page.goto(f"{root}/{name}")
        for chart in page.locator("[data-chart]").all():
            chart.scroll_into_view_if_needed()
        # The page forbids eval, and with it what waits for a function.
        page.locator("[data-chart]:not(:has(svg path))").first.wait_for(state="detached")
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(20, 22, 26)") == (scheme == "dark")
        pictures.add(page.screenshot(path=tmp_path / f"{len(pictures)}.png"))
    assert len(pictures) == len(PAGES)
    assert page.trouble == []


def test_every_picture_has_a_text_and_every_control_a_name(at):
    for name in PAGES:
        page = at(name)
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("[role=img]:not([aria-label])").count() == 0
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, select, input, summary, a')].filter(e => !(e.textContent.trim()"
            " || e.closest('label')?.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
        )
        assert nameless == 0, name


def test_both_legends_say_sign_and_scale(at):
    page = at("layer-1.html")
    said = page.inner_text("[data-layer-page]")
    for words in ("lowers the unit", "raises it", "each map on its own scale", "cosine similarity", "≥ 0.", "≤ −0."):
        assert words in said
