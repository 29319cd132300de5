"""The report in a real browser: drawn, quiet, self-contained, and usable by hand and by keyboard."""

import pytest
from browsing import ARGUMENTS, CHROMIUM, sync, watched
from viewing_runs import Maker

from jaxcam.viewing import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    made = Maker(tmp_path_factory.mktemp("browser") / "run", classes=("ant", "<b>bee</b>", "cat")).demo()
    report(made.path)
    return made


@pytest.fixture(scope="module")
def visit(browser, demo):
    """Opens a report; whatever the browser complains about or asks for ends in `page.trouble`."""

    def visit(made=demo, **context):
        path = made.path / "report.html"
        return watched(browser, path.as_uri(), path.as_uri(), **context)

    return visit


@pytest.fixture(scope="module")
def opened(visit):
    return visit()


@pytest.fixture
def page(opened):
    """The demo's report on a desktop, its controls as when it was opened."""
    for control in ("[data-all]", "[data-switch] input", "[data-pick] input"):
        opened.locator(control).first.evaluate("element => element.click()")
    opened.select_option("[data-layer-select]", "0")
    opened.select_option("[data-order]", "mean")
    return opened


def see(page, *selectors):
    """Scrolls there and waits until it is drawn."""
    for selector in selectors:
        page.locator(selector).first.scroll_into_view_if_needed()
        inside = f"{selector} svg path" if selector.startswith(".curves") else f"{selector} canvas"
        page.wait_for_selector(inside, state="attached")


def walk(page):
    """Scrolls to the end, so that everything that is drawn only when it comes near is drawn."""
    for chart in page.locator("[data-chart], .layer, [data-matrix]").all():
        chart.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('[data-chart]')].every(e => e.querySelector('svg path'))")
    page.wait_for_function("[...document.querySelectorAll('.layer')].every(e => e.querySelector('figure'))")


def tile(page, other_than=""):
    """The picture of the least similar unit of the first layer as a data URI, once it is drawn and another one."""
    place = ".layer[data-layer='0'] [data-side='low'] canvas"
    drawn = page.wait_for_function(
        "([place, other]) => { const c = document.querySelector(place), uri = c?.toDataURL();"
        " return c?.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v) && uri !== other && uri }",
        arg=[place, other_than],
    )
    return drawn.json_value()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_without_a_complaint_and_without_a_request(visit, scheme):
    page = visit(color_scheme=scheme)
    walk(page)
    assert page.trouble == []


def test_no_button_sends_a_chart_anywhere(page):
    see(page, ".curves")
    titles = page.locator(".modebar-btn").evaluate_all("buttons => buttons.map(button => button.dataset.title)")
    assert set(titles) <= {"Download plot as a PNG", "Download plot as a png", "Zoom", "Pan", "Reset axes"}
    assert titles


def test_curves_have_one_line_for_each_class_and_one_for_their_mean(page, demo):
    see(page, ".curves")
    lines = page.locator(".curves >> nth=0").locator(".scatterlayer .trace path.js-line")
    assert lines.count() == len(demo.classes) + 1
    widths = lines.evaluate_all("paths => paths.map(path => parseFloat(getComputedStyle(path).strokeWidth))")
    assert widths[-1] > 2 * max(widths[:-1])


def test_the_curves_show_the_store_s_means(page, demo):
    see(page, ".curves")
    drawn = page.eval_on_selector(".curves", "chart => chart.data.map(trace => Array.from(trace.y))")
    for index in range(len(demo.classes)):
        assert drawn[index] == pytest.approx([demo.similarity[layer][index].mean() for layer in demo.layers], abs=1e-5)


def test_choosing_a_class_fades_the_others_and_all_brings_them_back(page):
    see(page, ".curves")
    opacities = "chart => chart.data.map(trace => trace.opacity)"
    page.get_by_role("button", name="cat").click()
    assert page.eval_on_selector(".curves", opacities) == [0.1, 0.1, 1, 1]
    assert page.get_by_role("button", name="cat").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="all", exact=True).click()
    assert page.eval_on_selector(".curves", opacities) == [1, 1, 1, 1]


def test_live_units_only_changes_the_curves_and_the_sentence(page, demo):
    see(page, ".curves")
    before = page.inner_text("[data-variant='all']")
    page.get_by_text("live units only", exact=True).click()
    layer = demo.layers[-1]
    alive = ~demo.dead[layer][0]
    drawn = page.eval_on_selector(".curves", "chart => Array.from(chart.data[0].y)")
    assert drawn[-1] == pytest.approx(demo.similarity[layer][0][alive].mean(), abs=1e-5)
    assert page.is_hidden("[data-variant='all']")
    assert page.inner_text("[data-variant='live']") != before


def test_the_class_selector_switches_the_units_and_their_pictures(page, demo):
    see(page, ".layer[data-layer='0']")
    layer = demo.layers[0]

    def numbers():
        return page.locator(".layer[data-layer='0'] [data-side='low'] i").all_inner_texts()

    before = tile(page)
    assert numbers() == [f"#{unit}" for unit in demo.extremes[layer][0][:8] if unit >= 0]
    page.locator("[data-pick] label").nth(2).click()
    assert numbers() == [f"#{unit}" for unit in demo.extremes[layer][2][:8] if unit >= 0]
    assert tile(page, other_than=before)


def test_the_highest_unit_stands_at_the_right_end_with_its_similarity(page, demo):
    see(page, ".layer[data-layer='1']")
    layer = demo.layers[1]
    best = int(demo.extremes[layer][0][8])
    last = page.locator(".layer[data-layer='1'] [data-side='high'] figure").last
    assert last.get_attribute("title") == f"unit {best}: {demo.similarity[layer][0][best]:.3f}"
    label = last.locator("canvas").get_attribute("aria-label")
    assert label.startswith(f"map of unit {best} of {layer} for ant, similarity ")


def test_the_class_selector_works_by_keyboard(page):
    see(page, ".layer[data-layer='0']")
    before = tile(page)
    page.focus("[data-pick] input:checked")
    page.keyboard.press("ArrowRight")
    assert page.eval_on_selector("[data-pick] input:checked", "input => input.value") == "1"
    assert tile(page, other_than=before)


def test_walking_the_matrix_by_keyboard_reads_out_the_stored_value(page, demo):
    see(page, ".matrix-view")
    page.select_option("[data-layer-select]", "2")
    page.select_option("[data-order]", "unit")
    page.focus("[data-matrix]")
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    said = page.inner_text("[data-readout]")
    dead, value = demo.dead[demo.layers[2]][1, 2], demo.similarity[demo.layers[2]][1, 2]
    about = "dead for <b>bee</b>" if dead else f"{value:.3f} for <b>bee</b>".replace("-", "−")
    assert said.startswith(f"conv2, unit 2: {about}; mean over classes")


def test_the_table_sorts_by_similarity(page, demo):
    see(page, ".matrix-view")
    page.get_by_text("The same as a table").click()
    page.locator("[data-sort='value']").click()
    first = page.locator(".sortable tbody tr").first.locator("th, td").all_inner_texts()
    values = demo.similarity[demo.layers[0]][0]
    assert first[0] == str(int(values.argmax()))
    assert first[1] == f"{values.max():.3f}"
    assert page.locator("[aria-sort='descending'] [data-sort='value']").count() == 1


def test_a_phone_shows_the_page_without_scrolling_sideways(visit):
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    walk(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.trouble == []


def test_light_and_dark_differ_and_the_charts_follow(visit):
    page = visit(color_scheme="light")
    see(page, ".curves")
    look = (
        "() => [getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('.curves .scatterlayer .trace:last-child path.js-line')).stroke]"
    )
    light = page.evaluate(look)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({look})()[1] !== before", arg=light[1])
    dark = page.evaluate(look)
    assert light[0] != dark[0]


def test_every_picture_has_a_text_and_every_control_a_name(page):
    walk(page)
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("[role=img]:not([aria-label])").count() == 0
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input, summary')]"
        ".filter(e => !(e.textContent || e.closest('label')?.textContent || e.ariaLabel || '').trim()).length"
    )
    assert nameless == 0


def test_a_color_network_with_two_sweeps_draws_them_both(visit, make):
    maker = make(channels=3)
    maker.neurons(maker.made.path / "most")
    maker.neurons(maker.made.path / "least", average="least")
    report(maker.made.path)
    page = visit(maker.made)
    walk(page)
    assert page.locator(".curves .scatterlayer").count() == 4
    assert page.trouble == []
