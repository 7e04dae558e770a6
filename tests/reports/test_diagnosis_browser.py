"""The page of a diagnosis in a real browser: filters, sorting, widths, and no complaint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from lcam_cli.reports.diagnosis_page import DiagnosisPage
from tests.reports.test_browser import Page, driver
from tests.reports.test_diagnosis import shown, some

pytestmark = pytest.mark.slow

__all__ = ["driver"]  # a fixture


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = DiagnosisPage(tmp_path_factory.mktemp("errors & more"))
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
    assert all(name.startswith(("file:", "data:")) for name in opened.asked())


def paths(page: Page) -> list[str]:
    """The pictures that are shown."""
    script = (
        "return [...document.querySelectorAll('.mistakes li:not([hidden]) .path')]"
        ".map(p => p.textContent)"
    )
    return list(page(script))


def test_pictures_are_filtered_by_group_class_and_name(page: Page) -> None:
    assert len(paths(page)) == 4
    Select(page.find("select[name=group]")).select_by_value("bias")
    assert paths(page) == ["boat/1.jpg", "boat/2.jpg"]
    assert page.find(".filters output").text == "2 of 4 shown"
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
    assert page.driver.current_url.endswith("#pictures")
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
    script = "return Promise.all([...document.images].map(i => i.decode())).then(a => a.length)"
    assert page(script) == 12
