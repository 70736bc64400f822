"""The page in a headless Chromium, with what somebody does on it: fixtures for the tests of its file and of others."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.data.interactions import PackedLog
from tests.serving.browser import browser, requested
from tests.serving.live import ask, listening

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("httptools", reason="the development extras bring it")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.served import Served
from tests.serving.titled import fading, titled

ENTER, TAB, ESCAPE, UP, DOWN, SPACE = "\ue007", "\ue004", "\ue00c", "\ue013", "\ue015", "\ue00d"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def log(saved_log: PackedLog, tmp_path_factory: pytest.TempPathFactory) -> PackedLog:
    folder: Path = tmp_path_factory.mktemp("titled")
    return titled(saved_log, folder)


@pytest.fixture(scope="module")
def address(log: PackedLog) -> Iterator[str]:
    served = Served(fading(log), beside=fading(log, 1))
    with listening(served.gate) as found:
        yield found
    served.batcher.close()


class Page:
    """The page as somebody sees it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address
        driver.get_log("browser")
        requested(driver)
        driver.get(f"{address}/")

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        words = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        found: list[str] = self.driver.execute_script(words, selector)
        return found

    def until(self, holds: Callable[[], Any], seconds: float = 20) -> Any:
        limit = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < limit, (self.texts("body"), self.driver.get_log("browser"))
            time.sleep(0.02)
        return found

    def type(self, text: str) -> None:
        self.one("#typed").send_keys(text)
        self.until(lambda: self.one("#typed").get_attribute("aria-expanded") == "true")

    def add(self, text: str, title: str) -> None:
        self.type(text)
        self.until(lambda: self.texts("#found [aria-selected=true] div") == [title])
        self.one("#typed").send_keys(ENTER)

    def history(self) -> list[str]:
        return self.texts("#history .name")

    def listed(self, run: str = "A") -> list[str]:
        items = "return [...document.querySelectorAll(arguments[0])].map(e => e.dataset.item)"
        found: list[str] = self.driver.execute_script(items, f"[data-run={run}] li")
        return found

    def shows(self, run: str = "A", **body: Any) -> list[str]:
        """Waits until the run's list is what the service recommends; its items."""
        status, answer = ask(f"{self.address}/recommend", {"run": run, **body})
        assert status == 200
        expected = [str(item["item_id"]) for item in answer["recommendations"]]
        self.until(lambda: self.texts(f"[data-run={run}] .name") and self.listed(run) == expected)
        return expected

    def press(self, label: str) -> None:
        self.one(f"#history button[aria-label^='{label}']").click()

    def focused(self) -> str:
        found: str = self.driver.execute_script(
            "const e = document.activeElement; return e.getAttribute('aria-label') || e.id || e.tagName"
        )
        return found

    def told_nothing_to_others(self) -> None:
        """No request to another address, no complaint in the console, and no title that became a program."""
        for asked in requested(self.driver):
            assert asked.startswith(self.address), asked
        assert self.driver.get_log("browser") == []
        assert self.driver.execute_script("return window.caught === undefined")


@pytest.fixture
def page(driver: Any, address: str) -> Iterator[Page]:
    found = Page(driver, address)
    found.until(lambda: len(found.listed("A")) == len(found.listed("B")) == 4)
    yield found
    found.told_nothing_to_others()
