"""A report in a real browser, opened from the disk: sorts, finds, draws, and never complains.

Needs Chromium (or Chrome) with its driver, and selenium; skips where they are missing.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.demo.pictures import PHOTOS_SEED, write_pictures
from lcam_cli.maps.display import PERCENTILE, display_levels, display_limit
from lcam_cli.maps.record import Floats
from lcam_cli.maps.region import kept_pixels
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.registry import find_measure
from lcam_cli.measures.score import Score
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.measures.threshold import top_percent
from lcam_cli.reports.gallery import GalleryInfo
from lcam_cli.reports.origin import Origin
from lcam_cli.reports.report import Report
from tests.reports.sample import results, row

selenium = pytest.importorskip("selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Names from outside must not reach the network, and nothing else should.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
SIDE, ROWS = 32, 60
OWN_ADDRESSES = ("file:", "data:", "blob:")
NASTY = "<img src=x onerror=hacked=1></script><script>hacked=1</script>"
METHODS = ["cam", NASTY, "random"]
CLASSES = ["cat", "dog", f"class {NASTY}"]
NUS = (100.0, 12.5)


def sample() -> ScoredBatch:
    """Rows whose scores fall with their number; row 17 is where the methods differ most."""
    rng = np.random.default_rng(0)
    falling = np.linspace(0.9, 0.1, ROWS, dtype=np.float32)
    masked = np.stack([np.stack([falling * 0.9, falling * 0.5])] * 3)
    masked[1, 1, 17] = 0.99
    masked[2] = rng.random((2, ROWS))  # the floor differs everywhere, and does not count
    smooth = [
        np.asarray(Image.fromarray(rng.random((4, 4), np.float32)).resize((SIDE, SIDE)), np.float32)
        for _ in range(3 * ROWS)
    ]
    return ScoredBatch(
        images=rng.integers(60, 256, (ROWS, SIDE, SIDE, 3), np.uint8),
        paths=[f"{NASTY}{k}.jpg" if k == 5 else f"photo-{k:02}.jpg" for k in range(ROWS)],
        class_index=np.arange(ROWS, dtype=np.int32) % 3,
        class_names=[CLASSES[k % 3] for k in range(ROWS)],
        predicted_index=np.zeros(ROWS, np.int32),
        full=falling,
        saliency=[np.stack(smooth[m::3]) for m in range(3)],
        masked=masked,
        numbers=numbers(masked, falling),
        mean_saliency=rng.random((3, ROWS), np.float32),
        flat=np.zeros((3, ROWS), np.bool_),
    )


def numbers(masked: Floats, full: Floats) -> Floats:
    """AD at each ν, and sparseness: not defined for row 3; row 40's differ most."""
    drops = 100 * np.maximum(full - masked, 0) / full
    sparse = np.tile(np.linspace(0.2, 0.8, ROWS, dtype=np.float32), (3, 1))
    sparse[:, 3] = np.nan
    sparse[1, 40] = 0.05
    return np.concatenate([drops, sparse[:, None]], 1).astype(np.float32)


ROWS_OF = sample()
# The true class of every second image: of those the classifier, which says 0, is right on a third.
LABELS = {path: k % 3 for k, path in enumerate(ROWS_OF.paths) if k % 2 == 0}
COMMAND = f"lcam compare '{NASTY}'"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a report & more")
    root = tmp_path_factory.mktemp("its #1 photos?")
    for k in (0, 5):
        original = root / ROWS_OF.paths[k]
        original.parent.mkdir(parents=True, exist_ok=True)
        original.write_bytes(b"an image")
    measured = results(
        row(METHODS[0], (30.0, 10.0), (90.0, 1.0)),
        row(METHODS[1], (20.0, 20.0), (95.0, 0.0)),
        row(METHODS[2], (40.0, 5.0), (99.0, 0.0)),
    )
    rows = [
        replace(one, scores=replace(one.scores, plain={"sparseness": Score(0.5, (0.4, 0.6))}))
        for one in measured.rows
    ]
    measured = results(*rows)
    ad, sparse = find_measure("ad"), find_measure("sparseness")
    quantities = [*(Quantity(ad, nu) for nu in NUS), Quantity(sparse, None)]
    info = GalleryInfo(
        *(METHODS, 2, NUS, (0, 0, 0), (SIDE, SIDE), CLASSES, quantities),
        labels=LABELS,
        origin=Origin(COMMAND, str(root)),
    )
    with Report(folder, "compare", info) as one:
        one.add(ROWS_OF)
        return one.finish(measured)


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    helper = shutil.which("chromedriver")
    if program is None or helper is None:
        pytest.skip("no Chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(helper)) as started:
        yield started


class Page:
    """The report in the browser, as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, index: Path) -> None:
        self.driver = driver
        self._asked: list[str] = []
        driver.get_log("performance")  # what a test before this one asked for
        self.resize(1280, 900)
        driver.get(index.as_uri())
        driver.execute_script("localStorage.clear()")
        driver.refresh()

    def __call__(self, script: str, *given: object) -> Any:
        return self.driver.execute_script(script, *given)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def names(self) -> list[str]:
        """File names of the cards on this page."""
        script = "return [...document.querySelectorAll('.entry h3')].map(h => h.textContent)"
        return list(self(script))

    def methods(self) -> list[str]:
        """The result table's rows, from the top."""
        script = (
            "return [...document.querySelectorAll('#results tbody th')].map(h => h.textContent)"
        )
        return list(self(script))

    def drawn(self, card: int, method: int) -> np.ndarray[Any, Any]:
        """The pixels over an image, (SIDE, SIDE, 4), once they are there."""
        script = """
            const canvas = document.querySelectorAll('.entry')[arguments[0]]
                .querySelectorAll('canvas')[arguments[1]];
            canvas.scrollIntoView({block: 'center'});
            return canvas.toDataURL();
        """

        def pixels() -> np.ndarray[Any, Any]:
            encoded = self(script, card, method).partition(",")[2]
            return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))

        WebDriverWait(self.driver, 10).until(lambda _driver: pixels()[..., 3].any())
        self(
            "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
            ".then(() => 1)"
        )
        return pixels()

    def slide_to(self, nu: int) -> None:
        self(
            "const s = document.getElementById('nu'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))",
            nu,
        )

    def saved(self, button: str, name: str, folder: Path) -> str:
        """What a button's file holds, once it has been downloaded."""
        self.driver.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )
        self.find(button).send_keys(Keys.ENTER)
        WebDriverWait(self.driver, 10).until(lambda _driver: (folder / name).is_file())
        return (folder / name).read_text("utf-8")

    def asked(self) -> list[str]:
        """Every address the browser has asked for so far."""
        for line in self.driver.get_log("performance"):
            event = json.loads(line["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self._asked.append(event["params"]["request"]["url"])
        return self._asked

    def complaints(self) -> list[dict[str, Any]]:
        return list(self.driver.get_log("browser"))


@pytest.fixture
def page(driver: webdriver.Chrome, report: Path) -> Iterator[Page]:
    opened = Page(driver, report)
    yield opened
    assert opened.complaints() == []
    assert opened("return typeof hacked") == "undefined"
    assert opened("return document.querySelectorAll('img[onerror]').length") == 0
    asked = opened.asked()
    assert any(name.endswith("/page.css") for name in asked)
    assert all(name.startswith(OWN_ADDRESSES) for name in asked)


def test_the_table_is_sorted_by_click_and_by_keyboard(page: Page) -> None:
    assert page.methods() == METHODS
    head = page.find("#results th:nth-child(2)")  # AD(100)
    head.find_element(By.TAG_NAME, "button").click()
    assert page.methods() == [METHODS[1], METHODS[0], METHODS[2]]
    assert head.get_attribute("aria-sort") == "ascending"
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert page.methods() == [METHODS[2], METHODS[0], METHODS[1]]
    assert head.get_attribute("aria-sort") == "descending"
    page.find("#results th:nth-child(1) button").send_keys(Keys.SPACE)
    assert page.methods() == [METHODS[1], METHODS[0], METHODS[2]], "< comes before letters"
    assert head.get_attribute("aria-sort") is None


def test_pages_searches_filters_and_orders(page: Page) -> None:
    assert len(page.names()) == 24
    assert page.names()[5] == ROWS_OF.paths[5], "markup in a name is shown as it is"
    page.find("nav.pages button:last-child").click()
    assert page.names()[0] == "photo-24.jpg"
    page.find("#search").send_keys("PHOTO-3")
    assert page.names() == [f"photo-3{k}.jpg" for k in range(10)]
    assert page.find("#found").text == "10 of 60 shown"
    page.find("#search").clear()
    page.find("#search").send_keys("dog")
    assert page.find("#found").text == "20 of 60 shown"
    page.find("#search").clear()
    page.find("#search").send_keys("nothing like it")
    assert page.names() == []
    page.find("#search").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    Select(page.find("#class")).select_by_value("2")
    assert [option.text for option in Select(page.find("#class")).options][-1] == "dog (20)"
    assert page.names()[0] == "photo-02.jpg"
    assert page.find("#found").text == "20 of 60 shown"
    Select(page.find("#order")).select_by_value("disagree")
    assert page.names()[0] == "photo-17.jpg"
    Select(page.find("#class")).select_by_value("")
    assert page.names()[0] == "photo-17.jpg"
    Select(page.find("#order")).select_by_value("low")
    assert page.names()[:2] == ["photo-59.jpg", "photo-58.jpg"]


def heads(page: Page) -> list[str]:
    """The heads of the columns that are shown."""
    script = (
        "return [...document.querySelectorAll('#results thead th')]"
        ".filter(h => h.offsetParent).map(h => h.textContent)"
    )
    return list(page(script))


def shown_numbers(page: Page, method: int) -> dict[str, str]:
    """The first card's own numbers of a method that are shown, by measure."""
    script = """
        const tiles = document.querySelector('.entry').querySelectorAll('.tiles > li');
        const tile = tiles[arguments[0] + 1];
        return [...tile.querySelectorAll('.measures div')].filter(d => d.offsetParent)
            .map(d => [d.firstChild.textContent, d.lastChild.textContent]);
    """
    return dict(page(script, method))


def test_columns_are_chosen_for_the_table_and_the_pictures(page: Page) -> None:
    everything = [
        *("method", "AD(100)", "IC(100)", "AD(12.5)", "IC(12.5)", "sparseness"),
        *("#FW", "mean V", "images/s"),
    ]
    assert heads(page) == everything
    assert list(shown_numbers(page, 0)) == ["AD(100)", "AD(12.5)", "sparseness"]
    page.find("#columns summary").send_keys(Keys.ENTER)
    page.find("#columns input[value=IC]").send_keys(Keys.SPACE)
    page.find("#columns input[name=nu][value='100']").click()
    assert heads(page) == ["method", "AD(12.5)", "sparseness", "#FW", "mean V", "images/s"]
    assert list(shown_numbers(page, 0)) == ["AD(12.5)", "sparseness"]
    assert page.find("#columns-hidden").text == "(2 left out)"
    page.find("#results th:nth-child(4) button").click()  # sorts by what it says, hidden or not
    assert page.methods() == METHODS
    page.driver.refresh()
    assert heads(page) == ["method", "AD(12.5)", "sparseness", "#FW", "mean V", "images/s"]
    assert page("return Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
    page.find("#columns summary").click()
    page.find("#columns button[value=none]").click()
    assert heads(page) == ["method"]
    assert shown_numbers(page, 0) == {}
    page.find("#columns button[value=all]").click()
    assert heads(page) == everything, "of every ν too"
    assert "#" not in page("return location.href"), "nothing is left out, and nothing kept"


def test_an_address_of_another_page_changes_nothing(page: Page) -> None:
    for words in ("#hide=%E0%A4%A", "#hide=measure%20nothing,nu%20x", "#content"):
        page.driver.get(page.driver.current_url.partition("#")[0] + words)
        page.driver.refresh()
        assert len(heads(page)) == 9


def test_methods_are_searched(page: Page) -> None:
    page.find("#methods").send_keys("CAM")
    visible = (
        "return [...document.querySelectorAll('#results tbody tr')].filter(r => !r.hidden).length"
    )
    assert page(visible) == 1
    assert page.find("#no-method").text == ""
    page.find("#methods").send_keys("zzz")
    assert page.find("#no-method").text == "No method has this in its name."
    page.find("#methods").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert page.find("#no-method").text == ""
    assert page(visible) == 3


def test_pictures_are_ordered_by_any_measure_and_method(page: Page) -> None:
    expected = ROWS_OF.numbers
    assert not page.find("#by").is_displayed()
    Select(page.find("#order")).select_by_value("worst")
    assert page.find("#by").is_displayed()
    quantity, method = Select(page.find("#by-measure")), Select(page.find("#by-method"))
    assert [option.text for option in quantity.options] == ["AD(100)", "AD(12.5)", "sparseness"]
    assert [option.text for option in method.options] == METHODS
    quantity.select_by_visible_text("AD(12.5)")
    method.select_by_visible_text("random")
    worst = np.argsort(-np.round(expected[2, 1], 2), kind="stable")
    assert page.names()[:3] == [ROWS_OF.paths[k] for k in worst[:3]]
    assert shown_numbers(page, 2)["AD(12.5)"] == f"{expected[2, 1, worst[0]]:.2f}"
    said = f"AD(12.5) of random: {expected[2, 1, worst[0]]:.2f}"
    assert said in page.find(".entry .about").text
    Select(page.find("#order")).select_by_value("best")
    quantity.select_by_visible_text("sparseness")
    assert page.names()[0] == "photo-59.jpg"
    method.select_by_index(0)
    Select(page.find("#by-less")).select_by_index(2)  # after none and cam: the second method
    assert page.names()[0] == "photo-40.jpg", "where cam is most above the other"
    Select(page.find("#order")).select_by_value("worst")
    page.find("nav.pages button:last-child").click()
    page.find("nav.pages button:last-child").click()
    assert page.names()[-1] == "photo-03.jpg", "what is not defined comes last"
    assert "not defined" in page.find(".entry:last-child .about").text


def test_maps_are_drawn_near_the_screen_alone(page: Page) -> None:
    page.drawn(0, 0)
    maps = {name for name in page.asked() if "/maps/" in name}
    assert 0 < len(maps) < 24


def test_the_slider_shows_exactly_what_is_kept(page: Page) -> None:
    overlay = page.drawn(2, 1)
    levels = np.rint(ROWS_OF.saliency[1][2].clip(0, 1) * np.float32(255)).astype(np.uint8)
    assert np.abs(overlay[..., 3] - 0.8 * levels).max() <= 0.5
    for nu in (100, 30, 5):
        page.slide_to(nu)
        assert page.find("#nu-value").text == f"{nu}%"
        assert page.find("input[value=left]").is_selected()
        left = page.drawn(2, 1)
        V = torch.from_numpy(levels.astype(np.float32) / 255)[None]
        expected = top_percent(V, nu)[0].numpy()
        np.testing.assert_array_equal(255 - left[..., 3], np.rint(expected * 255))
        assert (left[..., 3] < 255).sum() == min(kept_pixels(nu, SIDE**2), (levels > 0).sum())
        assert not left[..., :3].any(), "black hides"
    page.find("#measured button:nth-child(2)").click()
    assert page.find("#nu-value").text == "12.5%"
    assert (page.drawn(2, 1)[..., 3] < 255).sum() == kept_pixels(12.5, SIDE**2)
    page.find("#nu").send_keys(Keys.ARROW_RIGHT)
    assert page.find("#nu-value").text == "14%"
    page.find("input[value=left]").send_keys(Keys.ARROW_LEFT)
    assert page.find("input[value=overlay]").is_selected()
    np.testing.assert_array_equal(page.drawn(2, 1), overlay)


def test_whole_pixels_are_drawn_whole(page: Page) -> None:
    alphas = """
        const canvas = Object.assign(document.createElement('canvas'), {width: 2, height: 2});
        lcamPixels.left([9, 9, 9], true)(canvas, Uint8Array.from([0, 255, 3, 90]), 50);
        const {data} = canvas.getContext('2d').getImageData(0, 0, 2, 2);
        return [3, 7, 11, 15].map((i) => data[i]);
    """
    assert page(alphas) == [255, 0, 255, 0]


@pytest.mark.parametrize("values", [2, 5, 256])
def test_pixels_are_kept_by_the_rule_of_the_measures(page: Page, values: int) -> None:
    levels = np.random.default_rng(values).integers(0, values, (9, 7)).astype(np.uint8)
    canvas = """
        const canvas = Object.assign(document.createElement('canvas'), {width: 32, height: 32});
        const all = new Uint8Array(32 * 32).fill(0);
        all.set(arguments[0]);
        lcamPixels.left([0, 0, 0])(canvas, all, arguments[1]);
        const data = canvas.getContext('2d').getImageData(0, 0, 32, 32).data;
        return [...arguments[0]].map((_, i) => 255 - data[4 * i + 3]);
    """
    whole = np.zeros(SIDE * SIDE, np.uint8)
    whole[: levels.size] = levels.flatten()
    V = torch.from_numpy(whole.astype(np.float32).reshape(1, SIDE, SIDE) / 255)
    for nu in (0.5, 1, 2, 3.125, 5, 6, 100):
        kept = page(canvas, levels.flatten().tolist(), nu)
        expected = (top_percent(V, nu)[0] * 255).round().flatten()[: levels.size].int().tolist()
        assert kept == expected


def test_overlays_of_pixels_end_at_the_percentile(page: Page) -> None:
    V = np.random.default_rng(0).beta(0.4, 6, (SIDE, SIDE)).astype(np.float32)
    levels = np.rint(255 * V / V.max()).astype(np.uint8)
    canvas = """
        const canvas = Object.assign(document.createElement('canvas'), {width: 32, height: 32});
        const greys = Array.from({length: 256}, (_, v) => v.toString(16).padStart(2, '0'));
        const paint = lcamPixels.overlay(greys.map((grey) => grey.repeat(3)).join(''));
        paint(canvas, Uint8Array.from(arguments[0]), 1, arguments[1]);
        const {data} = canvas.getContext('2d').getImageData(0, 0, 32, 32);
        return [...arguments[0]].map((_, i) => data[4 * i + 3]); // opacity is the level itself
    """
    assert page(canvas, levels.flatten().tolist(), None) == levels.flatten().tolist()
    V = levels.astype(np.float32) / np.float32(255)
    expected = display_levels(V, display_limit(V)).flatten().astype(int)
    drawn = np.array(page(canvas, levels.flatten().tolist(), PERCENTILE))
    assert np.abs(drawn - expected).max() <= 1  # halves are rounded up there
    assert (drawn == 255).sum() >= 10


def test_an_image_is_enlarged_by_the_keyboard(page: Page) -> None:
    small = page.drawn(0, 0)
    button = page.find(".entry .enlarge")
    button.send_keys(Keys.ENTER)
    dialog = page.find("#viewer")
    assert dialog.is_displayed()
    assert page.find("#viewer-title").text == "photo-00.jpg"
    assert page.find("#viewer-caption").text.startswith("cam: 81.0% at ν = 100%")
    large = """
        return document.getElementById('viewer-map').toDataURL()
            === document.querySelector('.entry canvas').toDataURL();
    """
    assert page(large), "the same map"
    assert page.find("#viewer-map").size["width"] > 5 * SIDE
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.find("#viewer-caption").text.startswith(f"{NASTY}: ")
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert page.find("#viewer-place").text == "1 of 4"
    assert not page.find("#viewer-map").is_displayed(), "the image alone"
    page.find("#viewer-opacity").send_keys(Keys.HOME)
    assert page.find("#opacity-value").text == "0%"
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert page("return document.activeElement.className") == "enlarge"
    assert small[..., 3].any()
    blank = """
        const context = document.querySelector('.entry canvas').getContext('2d');
        return context.getImageData(0, 0, 32, 32).data.every((v, i) => i % 4 !== 3 || v === 0);
    """
    WebDriverWait(page.driver, 10).until(lambda _driver: page(blank))


def test_originals_are_linked_and_a_name_is_no_address(page: Page) -> None:
    links = page("""
        return [...document.querySelectorAll('.entry')].map(
            (e) => e.querySelector('.actions a[target]')?.href ?? null);
    """)
    assert [k for k, link in enumerate(links) if link] == [0, 5]
    for k in (0, 5):
        assert links[k].startswith("file:///")
        assert unquote(links[k]).endswith(f"/{ROWS_OF.paths[k]}")
        assert Path(unquote(links[k]).removeprefix("file://")).read_bytes() == b"an image"


def test_an_address_leads_to_its_image(page: Page) -> None:
    address = page.driver.current_url.partition("#")[0]
    page.driver.get(f"{address}#hide=measure%20IC&entry=42")
    page.driver.refresh()
    assert page("return document.activeElement.querySelector('h3').textContent") == "photo-42.jpg"
    assert page("return document.querySelectorAll('[data-current]').length") == 1
    assert "IC(100)" not in heads(page)
    page.find(".entry .address").send_keys(Keys.ENTER)
    assert page.driver.current_url.endswith("#hide=measure%20IC&entry=24")
    page("location.hash = 'entry=59'")
    WebDriverWait(page.driver, 10).until(lambda _driver: page.names()[-1] == "photo-59.jpg")
    for nothing in ("999", "-1", "1e1", "x"):
        page.driver.get(f"{address}#entry={nothing}")
        page.driver.refresh()
        assert len(page.names()) == 24


def test_images_are_filtered_by_their_true_class(page: Page) -> None:
    Select(page.find("#true-class")).select_by_visible_text("dog (10)")
    assert page.find("#found").text == "10 of 60 shown"
    assert page.names()[0] == "photo-04.jpg"
    assert "true: dog (wrong)" in page.find(".entry .about").text
    Select(page.find("#right")).select_by_value("right")
    assert page.names() == []
    Select(page.find("#true-class")).select_by_value("")
    assert page.names()[:2] == ["photo-00.jpg", "photo-06.jpg"]
    Select(page.find("#right")).select_by_value("wrong")
    assert page.find("#found").text == "20 of 60 shown", "those without a label are neither"


def test_files_are_saved_from_the_page(page: Page, tmp_path: Path) -> None:
    page.find("#search").send_keys("photo-3")
    text = page.saved("#images-csv", "images.csv", tmp_path)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 10 * 3
    first = lines[1]
    assert (first["path"], first["method"]) == ("photo-30.jpg", NASTY)
    assert float(first["ad_12.5"]) == pytest.approx(float(ROWS_OF.numbers[1, 1, 30]), abs=0.006)
    assert (first["true_index"], lines[4]["true_index"]) == ("0", "")
    rows = json.loads(page.saved("#images-json", "images.json", tmp_path))
    assert [row["path"] for row in rows[::3]] == [f"photo-3{k}.jpg" for k in range(10)]
    assert rows[3]["true_index"] is None
    table = page.saved("#table-csv", "table.csv", tmp_path)
    assert table.splitlines()[0].startswith("method,nu,ad,")
    assert json.loads(page.saved("#table-json", "table.json", tmp_path))["schema"].startswith(
        "lcam"
    )


def test_a_formula_is_no_formula_in_the_files(page: Page) -> None:
    text = page("return lcamDownloads.csv([['=1+1', ' @x', 'a,\"b\"', -1.5, null]])")
    assert text == '\'=1+1,\' @x,"a,""b""",-1.5,\n'


def test_the_head_has_the_command_as_text(page: Page) -> None:
    assert page.find(".command code").text == COMMAND
    facts = page("return [...document.querySelectorAll('.facts dt')].map((t) => t.textContent)")
    assert {"Maps aligned", "Written"} <= set(facts)


def test_columns_out_of_sight_are_counted(page: Page) -> None:
    shown = """
        return [...document.querySelectorAll('.beyond button')]
            .filter((b) => b.offsetParent).map((b) => b.textContent);
    """
    page.resize(1920, 900)
    WebDriverWait(page.driver, 10).until(lambda _driver: page(shown) == [])
    page.resize(420, 900)
    WebDriverWait(page.driver, 10).until(lambda _driver: page(shown))
    (words,) = page(shown)
    before = int(words.split()[0])
    assert words.endswith("more columns \u2192")
    page.find(".beyond button:last-child").send_keys(Keys.ENTER)
    WebDriverWait(page.driver, 10).until(lambda _driver: len(page(shown)) == 2)
    assert int(page(shown)[1].split()[0]) < before


def test_the_theme_is_toggled_and_kept(page: Page) -> None:
    def ground() -> str:
        return str(page("return getComputedStyle(document.body).backgroundColor"))

    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    dark = ground()
    button = page.find("#theme")
    assert button.text == "Light theme"
    button.send_keys(Keys.ENTER)
    light = ground()
    assert light != dark
    assert button.text == "Dark theme"
    page.driver.refresh()
    assert ground() == light
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_the_page_never_scrolls_sideways(page: Page, width: int) -> None:
    page.resize(width, 700)
    page.drawn(0, 0)
    assert page("return document.documentElement.scrollWidth") <= width


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours as the browser gives them, ``rgb(…)``."""

    def luminance(colour: str) -> float:
        channels = [int(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_apart_in_both_themes(page: Page, theme: str) -> None:
    page("document.documentElement.dataset.theme = arguments[0]", theme)

    def colour(name: str) -> str:
        script = """
            const probe = document.createElement('i');
            probe.style.color = `var(--${arguments[0]})`;
            document.body.append(probe);
            const found = getComputedStyle(probe).color;
            probe.remove();
            return found;
        """
        return str(page(script, name))

    for ground in ("ground", "surface"):
        for text in ("ink", "muted", "accent"):
            assert contrast(colour(text), colour(ground)) >= 4.5, (text, ground)
        for mark in ("edge", "hue-floor", *(f"hue-{k}" for k in range(8))):
            assert contrast(colour(mark), colour(ground)) >= 3, (mark, ground)
    assert contrast(colour("on-accent"), colour("accent")) >= 4.5


def test_everything_has_a_name_and_the_keyboard_reaches_it(page: Page) -> None:
    page.drawn(0, 0)
    nameless = page("""
        return [...document.querySelectorAll('button, input, select, canvas, svg[role=img]')]
            .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
            .map(e => e.outerHTML);
    """)
    assert nameless == []
    assert page("return [...document.images].every(image => image.hasAttribute('alt'))")
    body = page.find("body")
    body.send_keys(Keys.TAB)
    reached = []
    for _ in range(44):
        reached.append(page("return document.activeElement.id || document.activeElement.value"))
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert {"theme", "search", "class", "order", "nu", "overlay", "12.5"} <= set(reached)


def used(driver: webdriver.Chrome, index: Path, cards: int) -> None:
    """Use a report as a person would, and find nothing wrong."""
    page = Page(driver, index)
    assert len(page.names()) == cards
    overlay = page.drawn(0, 0)
    page.find("#results th:nth-child(2) button").click()
    Select(page.find("#order")).select_by_value("disagree")
    page.slide_to(40)
    left = page.drawn(0, 0)
    assert left.shape == overlay.shape
    assert 0 < (left[..., 3] < 255).sum() <= kept_pixels(40, left[..., 3].size)
    page.find("#theme").click()
    page.resize(320, 700)
    assert page("return document.documentElement.scrollWidth") <= 320
    page.find("#search").send_keys("nothing like it")
    assert page.names() == []
    assert page.complaints() == []
    assert all(name.startswith(OWN_ADDRESSES) for name in page.asked())


@pytest.mark.real
def test_a_report_of_photographs(driver: webdriver.Chrome, real: Path, tmp_path: Path) -> None:
    words = ["compare", str(real / "photos"), "--max-images", "6", "--methods", "cam,gradcam++"]
    network = ["--backbone", "mobilenet_v2"]
    network += ["--weights", str(real / "mobilenet_v2_imagenet1k_fp16.pt")]
    outputs = ["--report", str(tmp_path / "report"), "--state", str(tmp_path / "state")]
    assert run(lcam_app(), [*words, *network, *outputs]) == 0
    used(driver, tmp_path / "report" / "index.html", 6)


def test_a_report_of_the_demos_pictures(driver: webdriver.Chrome, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", per_class=1, seed=PHOTOS_SEED)
    words = ["compare", str(tmp_path / "photos"), "--methods", "cam,gradcam"]
    outputs = ["--report", str(tmp_path / "report"), "--state", str(tmp_path / "state")]
    assert run(lcam_app(), [*words, "--backbone", "lcam-demo", *outputs]) == 0
    used(driver, tmp_path / "report" / "index.html", 10)
