"""The explorer's page in a real browser: what it draws, and how it is used."""

import shutil
import time

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from dnl_det.analysis.page.query_maps import crop

from .pages import make_page

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (dev extra)")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"
)
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver):
    """The browser with a laptop's window, which must have nothing to complain about."""
    screen(driver, 1366, 768)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    yield driver
    messages = [entry["message"] for entry in driver.get_log("browser")]
    # What reads canvases back is this file, not the page.
    assert [m for m in messages if "willReadFrequently" not in m] == []


def screen(driver, width, height, mobile=False):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page whose image is padded, and the record it shows."""
    return make_page(tmp_path_factory.mktemp("page"))


def visit(driver, file, fragment=""):
    driver.get("about:blank")  # else only the fragment would change
    driver.get(file.as_uri() + fragment)
    driver.execute_async_script("dnlExplorer.ready.then(arguments[0])")


def state(driver):
    return driver.execute_script("return dnlExplorer.state()")


def settle(driver):
    """Wait for the next frame, when what was asked for is drawn."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def hover(driver, x, y, stage="#picture"):
    """Move the mouse to pixel x, y of the image (200 x 120)."""
    left, top, width, height = driver.execute_script(
        f"const r = document.querySelector('{stage}').getBoundingClientRect();"
        "return [r.left, r.top, r.width, r.height]"
    )
    actions = ActionChains(driver, duration=0)
    actions.w3c_actions.pointer_action.move_to_location(
        round(left + width * x / 200), round(top + height * y / 120)
    )
    actions.perform()
    settle(driver)


def press(driver, *keys):
    ActionChains(driver).send_keys(*keys).perform()
    settle(driver)


def position_at(block, frame, point):
    return int(block.grid.nearest(frame.to_network(torch.tensor([point]).double()))[0])


def assert_shows(driver, block, frame, point):
    """Each term's weights are those of the position nearest to a point of the image."""
    query = position_at(block, frame, point)
    inside = block.key_grid.inside(frame)
    attention = block.attention(0, [query])
    expected = {
        "pairwise": attention.pairwise[0, inside],
        "unary": attention.unary[inside],
        "combined": attention.combined[0, inside],
    }
    loss = 1.01 * expected["pairwise"].max().item() / 255
    for term, weights in expected.items():
        shown = driver.execute_script(f"return dnlExplorer.values('{term}')")
        lost = {"pairwise": loss, "unary": 1e-7}.get(term, loss * block.block.gamma.item())
        np.testing.assert_allclose(shown, weights.numpy(), rtol=1e-6, atol=lost)


def drawn(driver, term):
    """Where the query of a drawn map is, its pixels (H, W, 3), its sides."""
    query, width, height, data = driver.execute_script(
        f"const c = document.querySelector('canvas[data-term={term}]');"
        "return [c.dataset.query, c.width, c.height,"
        "Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    pixels = np.array(data, np.uint8).reshape(height, width, 4)
    assert (pixels[..., 3] == 255).all()
    return tuple(map(int, query.split(","))), pixels[..., :3]


def test_it_opens_from_a_file_alone(browser, page):
    visit(browser, page[0])
    assert browser.title == "photo.jpg - attention"
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert all(name.startswith("data:") for name in loaded)
    assert browser.find_element("id", "failure").is_displayed() is False
    text = browser.find_element("tag name", "main").text
    for word in ("layers.1", "Pairwise", "Unary", "Combined", "circle 90", "γ = 0.5"):
        assert word in text, word


def test_any_class_name_is_text_of_its_own(browser, tmp_path):
    names = ["\u202eThis is reversed", "<script>document.title = 'mine'</script> " + 40 * "long "]
    file, _ = make_page(tmp_path, names=names)
    visit(browser, file, "#threshold=0.3")
    assert browser.title == "photo.jpg - attention"
    for places in ("#labels span", "#list button"):
        for place in browser.find_elements("css selector", places):
            name = place.find_element("tag name", "bdi")
            assert name.get_attribute("title") in names
            assert name.get_attribute("textContent") == name.get_attribute("title")
            assert name.rect["width"] < 260
            # The score is behind the name, whatever direction that has.
            left, right = browser.execute_script(
                "const r = document.createRange(); r.selectNodeContents(arguments[0]);"
                "r.setStartAfter(arguments[1]); const box = r.getBoundingClientRect();"
                "return [arguments[1].getBoundingClientRect().right, box.right]",
                place,
                name,
            )
            assert right > left


def test_a_point_finds_the_position_that_python_finds(browser, page):
    file, record = page
    frame = record.frames[0]
    for name, block in record.items():
        visit(browser, file, f"#block={name}")
        points = np.random.default_rng(0).uniform((0, 0), (200, 120), (300, 2))
        grid = crop(block.grid, frame)
        expected = grid.nearest(frame.to_network(torch.from_numpy(points)))
        found = browser.execute_script(
            "return arguments[0].map(([x, y]) => dnlExplorer.nearest(x, y))", points.tolist()
        )
        assert found == expected.tolist()


def test_hovering_shows_where_that_position_attends(browser, page):
    file, record = page
    visit(browser, file, "#block=layers.1")
    for point in ((31.0, 85.0), (150.0, 40.0), (199.0, 119.0)):
        hover(browser, *point)
        x, y = state(browser)["point"]
        assert abs(x - point[0]) < 1
        assert abs(y - point[1]) < 1
        assert_shows(browser, record["layers.1"], record.frames[0], (x, y))
    pinned = state(browser)
    hover(browser, 60, -10)
    assert state(browser)["point"] == [pinned["x"], pinned["y"]]  # back to the one pinned


def test_what_is_drawn_is_coloured_by_the_scale(browser, page):
    file, record = page
    block, frame = record["layers.3"], record.frames[0]
    visit(browser, file, "#block=layers.3&x=100&y=60&smooth=0&scale=linear&colours=viridis")
    query, pixels = drawn(browser, "unary")
    position = position_at(block, frame, (100, 60))
    assert query == divmod(position, block.grid.width)

    weights = block.attention(0, [position]).unary
    picture = torch.zeros(frame.original_height, frame.original_width, 2)
    picture[..., 0], picture[..., 1] = torch.arange(200) + 0.5, torch.arange(120)[:, None] + 0.5
    nearest = crop(block.grid, frame).nearest(frame.to_network(picture.reshape(-1, 2)))
    cells = weights[block.grid.inside(frame)][nearest].reshape(120, 200)
    index = (255 * cells / weights.max() + 0.5).floor().int().numpy()
    expected = colormaps["viridis"](index, bytes=True)[..., :3]
    rows = ((np.arange(120) + 0.5) * pixels.shape[0] / 120).astype(int)
    columns = ((np.arange(200) + 0.5) * pixels.shape[1] / 200).astype(int)
    same = (np.abs(pixels[rows][:, columns].astype(int) - expected) <= 2).all(2)
    assert same.mean() > 0.97  # the rest lies on edges of cells

    # Interpolated as Grid.to_image does.
    press(browser, "i")
    _, pixels = drawn(browser, "unary")
    smooth = crop(block.grid, frame).to_image(weights[block.grid.inside(frame)], frame)
    index = (255 * smooth / weights.max()).round().int().numpy()
    expected = colormaps["viridis"](index, bytes=True)[..., :3].astype(int)
    difference = np.abs(pixels[rows][:, columns].astype(int) - expected)
    assert np.percentile(difference, 95) <= 12
    assert np.median(difference) <= 2


def test_a_click_pins_and_a_click_on_a_map_goes_on_from_there(browser, page):
    file, record = page
    visit(browser, file, "#block=layers.1")
    hover(browser, 31, 85)
    ActionChains(browser).click().perform()
    hover(browser, 40, 20, "canvas[data-term=pairwise]")
    readout = browser.find_element("id", "readout").text
    assert "under the pointer pairwise" in readout
    assert_shows(browser, record["layers.1"], record.frames[0], (31.0, 85.0))
    ActionChains(browser).click().perform()
    settle(browser)
    assert_shows(browser, record["layers.1"], record.frames[0], (40.0, 20.0))


def test_keys(browser, page):
    file, record = page
    visit(browser, file, "#block=layers.1&x=100&y=60")
    before = state(browser)["query"]
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    after = state(browser)
    assert after["query"] == {"row": before["row"] + 2, "column": before["column"] + 1}
    assert_shows(browser, record["layers.1"], record.frames[0], after["point"])
    press(browser, *[Keys.ARROW_LEFT] * 60)
    assert state(browser)["query"]["column"] == 0
    press(browser, "2")
    assert state(browser)["block"] == "layers.3"
    press(browser, "[", "u", "s", "m", "o", "-", "b", "n")
    found = state(browser)
    expected = {"block": "layers.1", "terms": ["pairwise", "combined"], "scale": "log"}
    expected |= {"colours": "viridis", "over": "pairwise", "opacity": 0.7, "boxes": False}
    expected |= {"x": 60, "y": 70}  # the centre of the best detection
    assert {key: found[key] for key in expected} == expected
    maps = browser.find_elements("css selector", "#maps article")
    assert [m.get_attribute("aria-label") for m in maps] == [
        "pairwise attention",
        "combined attention",
    ]
    press(browser, "?")
    assert browser.find_element("id", "dialog").is_displayed()
    press(browser, Keys.ESCAPE)
    assert not browser.find_element("id", "dialog").is_displayed()


def test_every_control_can_be_reached_by_tab_and_has_a_name(browser, page):
    visit(browser, page[0])
    reached = []
    for _ in range(40):
        press(browser, Keys.TAB)
        reached.append(
            browser.execute_script(
                "const e = document.activeElement; return [e.id || e.textContent, "
                "e.getAttribute('aria-label') || e.textContent || e.labels?.[0]?.textContent || '',"
                "getComputedStyle(e).outlineStyle]"
            )
        )
        if reached[-1][0] == reached[0][0] and len(reached) > 1:
            break
    names = [entry[0] for entry in reached]
    for name in ("link", "layers.1", "unary", "log", "range", "opacity", "picture", "threshold"):
        assert name in names, name
    body = [entry for entry in reached if entry[2] == "none"]
    assert len(body) <= 1  # leaving the page's end
    assert all(entry[1] for entry in reached)


def test_a_link_restores_the_exact_state(browser, page):
    visit(browser, page[0], "#block=layers.1")
    press(browser, "s", "r", "m", "o", "+", "k", "d", "c", Keys.ARROW_UP)
    browser.find_element("id", "link").click()
    before, address = state(browser), browser.current_url
    fragment = address[address.index("#") :]
    visit(browser, page[0], fragment)
    after = state(browser)
    assert after.pop("point") == pytest.approx(before.pop("point"), abs=0.01)
    for key in "xy":
        assert after.pop(key) == pytest.approx(before.pop(key), abs=0.01)
    assert after == before
    assert (after["range"], after["theme"], after["masks"]) == ("shared", "light", False)

    # A link followed within the page.
    browser.execute_script("location.hash = '#block=layers.3&x=20&y=30&terms=pairwise'")
    settle(browser)
    found = state(browser)
    assert (found["block"], found["x"], found["y"]) == ("layers.3", 20, 30)
    assert (found["terms"], found["range"]) == (["pairwise"], "map")

    # Of a fragment, only what makes sense is taken.
    visit(browser, page[0], "#block=no&x=9999&opacity=7&scale=<b>&terms=unary,none&zoom=1")
    assert state(browser)["terms"] == ["unary"]
    assert state(browser)["block"] == "layers.1"
    assert state(browser)["opacity"] == 0.8


def test_dark_and_light(browser, page):
    def brightness():
        code = "return getComputedStyle(document.body).backgroundColor"
        return sum(int(v) for v in browser.execute_script(code)[4:-1].split(",")) / 3

    visit(browser, page[0])
    assert brightness() > 230
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert brightness() < 30
    browser.find_element("id", "theme").click()
    assert brightness() > 230
    browser.find_element("id", "theme").click()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert brightness() < 30


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 640), (844, 390)])
def test_a_phone(browser, page, width, height):
    file, record = page
    screen(browser, width, height, mobile=True)
    touch = {"enabled": True, "maxTouchPoints": 1}
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touch)
    visit(browser, file, "#block=layers.1")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    left, top, right, bottom = browser.execute_script(
        "const r = document.getElementById('picture').getBoundingClientRect();"
        "return [r.left, r.top, r.right, r.bottom]"
    )
    assert 0 <= left < right <= width
    maps = browser.execute_script(
        "return [...document.querySelectorAll('#maps article')]"
        ".map((e) => e.getBoundingClientRect().top)"
    )
    # In sight together with the picture: below it, or beside it.
    assert len(maps) == 3
    assert min(maps) < height - 100
    assert (min(maps) > bottom) is (width < height)

    x, y = 0.25 * 200, 0.75 * 120
    where = {"x": left + 0.25 * (right - left), "y": top + 0.75 * (bottom - top)}
    touched = {"type": "touchStart", "touchPoints": [where]}
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", touched)
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settle(browser)
    found = state(browser)
    assert (found["x"], found["y"]) == pytest.approx((x, y), abs=1)
    assert_shows(browser, record["layers.1"], record.frames[0], found["point"])


def test_detections_and_their_threshold(browser, page):
    visit(browser, page[0], "#threshold=0.4")
    shapes = "return [...document.querySelectorAll('#shapes .{}')].length"
    assert browser.execute_script(shapes.format("box")) == 2
    assert browser.execute_script(shapes.format("mask")) == 2
    assert browser.find_element("id", "count").text == "2 of 2"
    assert "<b>square</b> 40" in browser.find_element("id", "list").text
    visit(browser, page[0])
    assert browser.find_element("id", "count").text == "1 of 2"  # 0.5, unless told otherwise
    assert browser.execute_script(shapes.format("box")) == 1


def test_a_block_without_a_pairwise_term_shows_unary_alone(browser, tmp_path):
    gc = {"name": "gc", "in_channels": 16}
    dot = {"name": "nl", "in_channels": 16, "kernel": "dot_product"}
    file, record = make_page(tmp_path, kinds=(gc, dot))
    visit(browser, file, "#block=layers.1")
    shown = [e.text for e in browser.find_elements("css selector", "#maps h2")]
    assert shown == ["Unary"]
    values = browser.execute_script("return dnlExplorer.values('unary')")
    block = record["layers.1"]
    expected = block.attention(0, [0]).unary[block.grid.inside(record.frames[0])]
    np.testing.assert_allclose(values, expected.numpy(), rtol=1e-6)

    # Weights that may be negative: blue and red around 0.
    press(browser, "2")
    block = record["layers.3"]
    query = position_at(block, record.frames[0], state(browser)["point"])
    weights = block.attention(0, [query]).pairwise[0, block.grid.inside(record.frames[0])].numpy()
    assert weights.min() < 0 < weights.max()
    shown = np.array(browser.execute_script("return dnlExplorer.values('pairwise')"))
    np.testing.assert_allclose(shown, weights, atol=1.01 * np.abs(weights).max() / 127)
    legend = browser.find_element("css selector", "#maps .numbers").text.split()
    assert float(legend[0]) == -float(legend[2]) < 0
    assert browser.find_element("css selector", "#maps h2").text == "Joint"
    assert "may be negative" in browser.find_element("id", "block-text").text


def test_a_page_of_800_x_1333_is_small_and_answers_at_once(browser, tmp_path):
    budget = 3_000_000
    file, record = make_page(tmp_path, size=(200, 333), picture=(800, 1333), budget=budget)
    assert crop(record["layers.1"].grid, record.frames[0]).centres().shape == (4200, 2)
    assert file.stat().st_size < budget + 600_000
    start = time.perf_counter()
    visit(browser, file, "#block=layers.1")
    assert time.perf_counter() - start < 10
    note = browser.find_element("id", "sampling").text
    assert "were recorded as queries (every second across" in note
    times = []
    for x in range(20, 180, 8):
        hover(browser, x, 60)
        times.append(browser.execute_script("return dnlExplorer.milliseconds()"))
    assert np.median(times) < 50, times
