"""The page of a diagnosis in a real browser: filters, sorting, widths, and no complaint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from lcam_cli.reports.diagnosis import to_csv, to_json
from lcam_cli.reports.diagnosis_page import DiagnosisPage
from lcam_cli.reports.text import printable
from tests.reports.test_browser import OWN_ADDRESSES, Page, driver
from tests.reports.test_diagnosis import shown, some

pytestmark = pytest.mark.slow

__all__ = ["driver"]  # a fixture


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = DiagnosisPage(tmp_path_factory.mktemp("errors & more"), (40, 40))
    found = some()
    for one in found.diagnosis.mistakes:
        page.add(shown(one))
    return page.finish(found)


@pytest.fixture
def page(driver, index: Path) -> Iterator[Page]:  # type: ignore[no-untyped-def]
    opened = Page(driver, index)
    yield opened
    assert opened.complaints() == []
    assert opened("return document.querySelectorAll('script:not([src])').length") == 0
    assert all(name.startswith(OWN_ADDRESSES) for name in opened.asked())


def paths(page: Page) -> list[str]:
    """The images that are shown."""
    return page.names()


def test_pictures_are_filtered_by_group_class_and_name(page: Page) -> None:
    assert len(paths(page)) == 4
    Select(page.find("select[name=group]")).select_by_value("bias")
    assert paths(page) == ["boat/1.jpg", "boat/2.jpg"]
    assert page.find("#found").text == "2 of 4 shown"
    page.find("input[name=text]").send_keys("2.JPG")
    assert paths(page) == ["boat/2.jpg"]
    page.find("input[name=text]").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    Select(page.find("select[name=group]")).select_by_value("")
    Select(page.find("select[name=class]")).select_by_value("1")
    assert paths(page) == ["boat/1.jpg", "boat/2.jpg"], "taken for key"


def test_a_class_in_the_table_shows_the_pictures_it_is_in(page: Page) -> None:
    page.find("select[name=group]").send_keys("several")
    page.find("a[data-class='1']").send_keys(Keys.ENTER)
    assert paths(page) == ["boat/1.jpg", "boat/2.jpg"]
    assert page("return document.activeElement.id") == "images"
    page.find("a[data-group=related]").click()
    assert paths(page) == ["boat/3.jpg"]


def test_classes_are_sorted(page: Page) -> None:
    def first() -> str:
        return str(page.find(".tall tbody th").text)

    assert first() == "boat", "the most suspicious"
    page.driver.find_elements(By.CSS_SELECTOR, ".tall thead th button")[1].click()
    assert first() != "boat"


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_every_picture_is_there(
    page: Page, width: int, theme: str
) -> None:
    page.resize(width, 900)
    page("document.documentElement.dataset.theme = arguments[0]", theme)
    assert page("return document.documentElement.scrollWidth") <= width
    page("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    script = """
        const images = [...document.images].filter((image) => image.getAttribute('src'));
        return Promise.all(images.map((image) => image.decode())).then((all) => all.length);
    """
    assert page(script) == 12
    page.drawn(0, 1)


def test_a_cell_of_the_matrix_shows_its_images(page: Page) -> None:
    cells = page("""
        return [...document.querySelectorAll('.matrix tbody tr')].map(
            (row) => [...row.cells].slice(1).map((cell) => cell.textContent.trim()));
    """)
    assert cells == [["13", "2", "1"], ["·", "3", "·"], ["1", "·", "·"]]
    page.find(".matrix a[data-true='0'][data-predicted='1']").send_keys(Keys.ENTER)
    assert paths(page) == ["boat/1.jpg", "boat/2.jpg"]
    page.find(".matrix a[data-true='2'][data-predicted='0']").click()
    assert len(paths(page)) == 1


def test_files_are_those_of_the_command(page: Page, tmp_path: Path) -> None:
    assert page.saved("#images-csv", "misclassified.csv", tmp_path) == to_csv(some())
    ours = json.loads(page.saved("#images-json", "misclassified.json", tmp_path))
    theirs = json.loads(to_json(some()))
    for one in theirs["pictures"]:  # a page has names as they can be shown
        for name in ("path", "true", "predicted"):
            one[name] = printable(one[name])
    assert ours == theirs
    lines = page.saved("#classes-csv", "classes.csv", tmp_path).splitlines()
    assert lines[1].startswith("boat,0,")
    lines = page.saved("#pairs-csv", "pairs.csv", tmp_path).splitlines()
    assert lines[1] == "boat,0,key,1,2"


def test_an_image_is_enlarged_and_has_an_address(page: Page) -> None:
    page.find(".entry:nth-child(3) .address").click()
    assert page.driver.current_url.endswith("#entry=2")
    page.driver.refresh()
    assert page("return document.activeElement.querySelector('h3').textContent") == "boat/3.jpg"
    page.find(".entry .enlarge").send_keys(Keys.ENTER)
    assert page.find("#viewer-caption").text == "true: boat: 10.0%"


def test_no_column_is_cut_at_1280_pixels(page: Page) -> None:
    assert page("""
        return [...document.querySelectorAll('.wide')].every((w) => w.scrollWidth <= w.clientWidth);
    """)
