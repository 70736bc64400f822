"""A headless Chromium, where this machine has one."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.page_screenshot import chromium
from seqrec_cli.config.errors import SeqrecError


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A driver (selenium's); skips the test where the browser, its driver or selenium is missing."""
    with contextlib.ExitStack() as stack:
        try:
            driver = stack.enter_context(chromium(1200, 900))
        except SeqrecError as error:
            pytest.skip(str(error))
        yield driver


def requested(driver: Any) -> list[str]:
    """Addresses of all that was asked for since the last call."""
    events = (json.loads(line["message"])["message"] for line in driver.get_log("performance"))
    return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
