"""A headless Chromium, where this machine has one."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def chromium(*, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A driver (selenium's); skips the test where the browser, its driver or selenium is missing."""
    pytest.importorskip("selenium", reason="the development extras bring selenium")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    program = shutil.which("chromedriver")
    if found is None or program is None:
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", f"window-size={width},{height}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program))
    driver.implicitly_wait(0)
    try:
        yield driver
    finally:
        driver.quit()


def requested(driver: Any) -> list[str]:
    """Addresses of all that was asked for since the last call."""
    events = (json.loads(line["message"])["message"] for line in driver.get_log("performance"))
    return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
