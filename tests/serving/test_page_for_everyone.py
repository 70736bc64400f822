"""The page in a headless Chromium for who has no mouse, reads it aloud, at night, or on a phone."""

import itertools

import pytest

from tests.serving import opened
from tests.serving.opened import DOWN, ENTER, ESCAPE, SPACE, TAB, UP, Page
from tests.serving.titled import HOSTILE

driver, log, address, page = opened.driver, opened.log, opened.address, opened.page  # fixtures


def test_the_keyboard_is_enough(page: Page) -> None:
    from selenium.webdriver import ActionChains

    def keys(*pressed: str) -> None:
        ActionChains(page.driver).send_keys(*pressed).perform()

    assert page.focused() == "typed"
    for text in ("heat", "brazil"):
        keys(text)
        page.until(lambda: page.one("#typed").get_attribute("aria-expanded") == "true")
        keys(ENTER)
    keys("he")
    page.until(lambda: len(page.all("#found li")) == 3)
    active = [page.one("#typed").get_attribute("aria-activedescendant")]
    for key in (DOWN, DOWN, DOWN, UP):
        keys(key)
        active.append(page.one("#typed").get_attribute("aria-activedescendant"))
    assert active == ["found-0", "found-1", "found-2", "found-0", "found-2"]
    assert [option.get_attribute("aria-selected") for option in page.all("#found li")] == ["false", "false", "true"]
    keys(ESCAPE)
    assert not page.one("#found").is_displayed()
    assert page.history() == ["Heat", "Brazil"]
    # Up to the last event's button, by the tabulator alone.
    for _ in range(20):
        keys(TAB)
        if page.focused().startswith("Move Brazil up"):
            break
    keys(SPACE)
    assert page.history() == ["Brazil", "Heat"]
    assert page.focused().startswith("Move Brazil down")  # the first event has no way up
    page.shows(user_history=[105, 101])
    keys(ENTER)
    assert page.history() == ["Heat", "Brazil"]
    assert page.focused().startswith("Move Brazil up")
    keys(TAB, SPACE)
    assert (page.history(), page.focused()) == (["Heat"], "Remove Heat")
    keys(SPACE)
    assert (page.history(), page.focused()) == ([], "typed")
    page.shows(user_history=[])
    for _ in range(30):
        keys(TAB)
        if page.focused().startswith("Add "):
            break
    first = page.focused()
    keys(ENTER)
    page.until(lambda: [f"Add {name} to the history" for name in page.history()] == [first])
    page.until(lambda: page.focused().startswith("Add ") and page.focused() != first)  # the same place of the new list


def test_every_control_has_a_name_and_every_region_a_role(page: Page) -> None:
    page.add("heat", "Heat")
    page.shows("A", user_history=[101])
    page.shows("B", user_history=[101])
    for control in page.all("input, select, button, [role=listbox], section, ol"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert page.one("#typed").aria_role == "combobox"
    assert page.one("#typed").get_attribute("aria-controls") == page.one("[role=listbox]").get_attribute("id")
    assert [page.one(each).get_attribute("role") for each in ("#said", "#done", "#fault")] == [
        "status",
        "status",
        "alert",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_texts_can_be_read(page: Page, scheme: str) -> None:
    page.add("heat", "Heat")
    page.add("amel", "Amélie")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    names = ("paper", "raised", "ink", "quiet", "accent", "on-accent", "for", "against")
    found = page.driver.execute_script(
        "const s = getComputedStyle(document.documentElement);"
        "return Object.fromEntries(arguments[0].map(n => [n, s.getPropertyValue('--' + n).trim()]))",
        names,
    )
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (luminance(found["paper"]) < luminance(found["ink"])) is (scheme == "dark")
    for text, ground in itertools.product(("ink", "quiet", "for", "against", "accent"), ("paper", "raised")):
        assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["on-accent"], found["accent"]) >= 4.5


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    parts = [int(digits[nth : nth + 2], 16) / 255 for nth in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_phone_s_width_holds_it(page: Page) -> None:
    page.add("<img", HOSTILE)
    page.add("amel", "Amélie")
    page.until(lambda: any(page.texts("[data-run=A] .because")))
    device = {"width": 320, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    width = page.driver.execute_script("return document.documentElement.scrollWidth")
    outside = page.driver.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 321).length"
    )
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (width, outside) == (320, 0)
