"""The page in a headless Chromium: typing, moving, removing, two runs, the token, keys alone; hostile titles."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from tests.serving.browser import browser, requested
from tests.serving.live import ask, listening

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("httptools", reason="the development extras bring it")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.served import Served
from tests.serving.test_recommending import CPU, WINDOW, Clock
from tests.serving.titled import HOSTILE, TITLES, fading, titled

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


def test_a_typed_title_becomes_an_event_and_the_list_follows(page: Page) -> None:
    assert page.texts("[data-run=A] .note") == ["Nothing is known that it could read: the most popular items"]
    page.type("HEA")
    page.until(lambda: len(page.texts("#found li")) == 3)
    assert set(page.texts("#found li div")) == {"Heat", "Heart of Glass", "The Great Heat"}
    next(option for option in page.all("#found li") if option.text.startswith("The Great Heat")).click()
    assert page.history() == ["The Great Heat"]
    assert page.one("#typed").get_attribute("value") == ""
    assert not page.one("#found").is_displayed()
    page.shows(user_history=[104])
    page.add("amelie", "Amélie")
    page.shows(user_history=[104, 100])
    assert page.texts("#history small") == ["id 104 · noir", "id 100 · drama"]
    details = "[data-run=A] li small:not(.score)"
    page.until(lambda: all(" · " in text or text == "id 124" for text in page.texts(details)))
    page.until(lambda: page.texts("#done") == ["Amélie added as event 2"])
    page.all("[data-run=A] .plus")[1].click()
    page.until(lambda: len(page.history()) == 3)


def test_who_types_faster_than_the_list_comes_gets_what_was_typed(page: Page) -> None:
    page.one("#typed").send_keys("heart", ENTER)
    page.until(lambda: page.history() == ["Heart of Glass"])
    page.type("he")
    page.until(lambda: len(page.texts("#found li")) == 3)
    page.one("#typed").send_keys("at", ENTER)  # the list is still that of `he`, whose first may be another
    page.until(lambda: len(page.history()) == 2)
    assert page.history() == ["Heart of Glass", "Heat"]
    page.one("#typed").send_keys("nothing at all", ENTER)
    page.until(lambda: page.texts("#done") == ["No title and no id has this in it"])
    time.sleep(0.3)  # nothing is asked for later on its behalf
    assert (len(page.history()), page.one("#found").is_displayed()) == (2, False)


def test_order_matters_and_is_changed_by_buttons(page: Page) -> None:
    for text, title in (("heat", "Heat"), ("brazil", "Brazil"), ("amel", "Amélie")):
        page.add(text, title)
    before = page.shows(user_history=[101, 105, 100])
    page.press("Move Amélie up")
    assert page.history() == ["Heat", "Amélie", "Brazil"]
    assert page.shows(user_history=[101, 100, 105]) != before
    assert page.texts("#done") == ["Amélie is now event 2 of 3"]
    page.press("Move Heat down")
    assert page.history() == ["Amélie", "Heat", "Brazil"]
    assert not page.one("[aria-label^='Move Amélie up']").is_enabled()
    assert not page.one("[aria-label^='Move Brazil down']").is_enabled()
    page.shows(user_history=[100, 101, 105])
    page.press("Remove Heat")
    assert page.history() == ["Amélie", "Brazil"]
    page.shows(user_history=[100, 105])
    page.one("#clear").click()
    assert page.history() == []
    page.shows(user_history=[])


DRAG = """
const [from, to, part] = arguments;
const rows = document.querySelectorAll("#history li");
const data = new DataTransfer();
function fire(row, kind, clientY) {
  const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data, clientY });
  row.querySelector(".name").dispatchEvent(event);
  return event.defaultPrevented;
}
const box = rows[to].getBoundingClientRect();
const at = box.top + part * box.height;
fire(rows[from], "dragstart", 0);
const taken = fire(rows[to], "dragover", at);
const marked = rows[to].className;
fire(rows[to], "drop", at);
fire(rows[from], "dragend", 0);
return [taken, marked];
"""


def test_an_event_is_dragged_to_another_place(page: Page) -> None:
    for text, title in (("heat", "Heat"), ("brazil", "Brazil"), ("amel", "Amélie")):
        page.add(text, title)
    for start, end, part, marked, titles in (
        (0, 2, 0.9, "after", ["Brazil", "Amélie", "Heat"]),
        (2, 1, 0.1, "before", ["Brazil", "Heat", "Amélie"]),
        (0, 1, 0.1, "before", ["Brazil", "Heat", "Amélie"]),
        (1, 0, 0.1, "before", ["Heat", "Brazil", "Amélie"]),
    ):
        assert page.driver.execute_script(DRAG, start, end, part) == [True, marked]
        assert page.history() == titles
        assert page.all("#history .after, #history .before, #history .dragged") == []
    page.shows(user_history=[101, 105, 100])


def test_two_runs_stand_beside_each_other(page: Page) -> None:
    page.until(lambda: page.texts("h3") == ["A: fading0 (epoch_83)", "B: fading1 (epoch_83)"])
    page.add("heat", "Heat")
    page.add("amel", "Amélie")
    a, b = page.shows("A", user_history=[101, 100]), page.shows("B", user_history=[101, 100])
    assert a != b
    both = len(set(a) & set(b))
    page.until(lambda: page.texts("#said") == [f"{both} of 4 items are in both lists"])
    marks = dict(zip(page.listed("A"), page.texts("[data-run=A] .also"), strict=True))
    assert marks == {item: f"B: {b.index(item) + 1}" if item in b else "" for item in a}


def test_what_counted_is_what_leaving_it_out_changes(page: Page) -> None:
    for text, title in (("heat", "Heat"), ("brazil", "Brazil"), ("amel", "Amélie")):
        page.add(text, title)
    items = page.shows("B", user_history=[101, 105, 100])
    _, answer = ask(f"{page.address}/explain", {"run": "B", "user_history": [101, 105, 100], "candidates": items})
    events = answer["explained"][1]["events"]
    shown = page.until(lambda: [text for text in page.texts("[data-run=B] .because") if text])
    numbers = [f"{event['contribution']:+.2f}".replace("-", "−") for event in events]
    named = ", ".join(f"{TITLES[event['item_id']]} {n}" for event, n in zip(events, numbers, strict=True))
    page.until(lambda: page.texts("[data-run=B] .because")[1] == f"what counted: {named}")
    assert len(shown) == 4
    page.until(lambda: len(page.texts("[data-run=B] small:not(.score):not(:empty)")) == 4)  # rows grow by it
    why = page.all("[data-run=B] .why")[1]
    why.click()
    assert why.get_attribute("aria-pressed") == "true"
    bars = dict(zip([event["position"] for event in events], numbers, strict=True))
    assert page.texts("#history .bar span") == [bars[place] for place in range(3)]
    widths = page.driver.execute_script(
        "return [...document.querySelectorAll('#history .bar i')].map(e => e.offsetWidth)"
    )
    assert widths.index(max(widths)) == events[0]["position"]
    page.press("Remove Heat")
    page.until(lambda: all(not bar.is_displayed() for bar in page.all("#history .bar")))


def test_a_user_is_loaded_and_edited(page: Page, log: PackedLog) -> None:
    user = int(np.diff(log.offsets_U1).argmax())
    items = (log.items_N[log.offsets_U1[user] : log.offsets_U1[user + 1]] + 99).tolist()
    page.one("#user").send_keys(str(user), ENTER)
    page.until(lambda: len(page.history()) == len(items))
    page.shows(user=user)
    assert page.texts("#told") == [f"User {user}: {len(items)} events, the latest last"]
    page.until(lambda: len([text for text in page.texts("[data-run=A] .because") if text]) == 4)
    page.all("#history li")[-1].find_elements("css selector", "button")[2].click()
    page.shows(user=user, user_history=items[:-1])
    assert page.texts("#told") == [f"User {user}, edited: {len(items) - 1} events, the latest last"]
    page.one("#user").clear()
    page.one("#user").send_keys("nobody", ENTER)
    page.until(lambda: "the data have no such user" in page.one("#fault").text)
    assert len(page.history()) == len(items) - 1
    assert [line["level"] for line in page.driver.get_log("browser")] == ["SEVERE"]  # Chromium logs a status of 422


def test_how_many_and_whether_what_was_seen_comes_back(page: Page) -> None:
    page.add("heat", "Heat")
    page.one("#top option[value='20']").click()
    page.one("#repeats option[value='true']").click()
    assert "101" in page.shows(user_history=[101], top_k=20, repeats=True)
    page.one("#repeats option[value='false']").click()
    assert "101" not in page.shows(user_history=[101], top_k=20, repeats=False)


def test_a_hostile_title_is_a_text(page: Page) -> None:
    page.type("<img")
    assert page.texts("#found li div") == [HOSTILE]
    page.one("#typed").send_keys(ENTER)
    page.add("heat", "Heat")
    page.until(lambda: any(HOSTILE in text for text in page.texts(".because")))
    page.one("#top option[value='50']").click()
    page.one("#repeats option[value='true']").click()
    page.until(lambda: HOSTILE in page.texts("[data-run=A] .name"))
    reasons = page.until(lambda: [text for text in page.texts("[data-run=A] .because") if text])
    assert (len(reasons), len(page.listed())) == (20, 25)  # as many as a request may have candidates
    assert page.history() == [HOSTILE, "Heat"]
    assert page.all("main img") == []


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


def test_a_stale_answer_never_takes_the_place_of_a_later_one(page: Page) -> None:
    page.driver.execute_script(
        """const real = window.fetch; let nth = 0;
        window.fetch = async (path, how) => {
          const found = await real(path, how);
          if (path === "recommend" && nth++ < 2) await new Promise(done => setTimeout(done, 400));
          return found;
        };"""
    )
    page.add("heat", "Heat")
    time.sleep(0.15)  # both runs have been asked, and wait
    page.add("brazil", "Brazil")
    expected = page.shows(user_history=[101, 105])
    time.sleep(0.5)
    assert page.listed() == expected


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


def test_a_model_that_reads_times_is_told_them_in_their_order(driver: Any, saved_log: PackedLog) -> None:
    clock = Recommending(Clock(saved_log.catalog), saved_log, name="clock", max_length=WINDOW, precision=CPU)
    served = Served(clock)
    with listening(served.gate) as address:
        page = Page(driver, address)
        page.until(page.listed)
        page.one("#user").send_keys("4", ENTER)
        page.until(page.history)
        page.driver.execute_script(
            "const real = window.fetch; window.bodies = [];"
            "window.fetch = (path, how) => { if (how.body) window.bodies.push(how.body); return real(path, how); };"
        )
        page.add("104", "104")
        page.press(f"Move {page.history()[0]} down")
        page.until(lambda: page.texts(".note")[0].startswith("It read"))
        moved = json.dumps([int(name) for name in page.history()]).replace(" ", "")
        asked = "return window.bodies.filter(body => body.includes(arguments[0])).at(-1) ?? null"
        body = json.loads(page.until(lambda: page.driver.execute_script(asked, moved)))
        assert body["user"] == "4"
        assert len(body["times"]) == len(body["user_history"])
        assert body["times"] == sorted(body["times"])
        assert body["times"][-1] == body["times"][-2] + 60
        page.told_nothing_to_others()
    served.batcher.close()


def test_the_token_is_asked_for_and_kept_nowhere(driver: Any, log: PackedLog) -> None:
    served = Served(fading(log), token="s3cret")
    with listening(served.gate) as address:
        page = Page(driver, address)
        page.until(lambda: page.one("#token-form").is_displayed())
        assert page.focused() == "token"
        page.one("#token").send_keys("wrong", ENTER)
        page.until(lambda: page.one("#fault").text == "That is not this service's token.")
        page.one("#token").send_keys("s3cret", ENTER)
        page.until(lambda: len(page.listed()) == 4)
        assert not page.one("#token-form").is_displayed()
        assert (page.one("#fault").text, page.one("#token").get_attribute("value")) == ("", "")
        page.add("heat", "Heat")
        page.until(lambda: page.texts("[data-run=A] .note") == ["It read the latest event"])
        stored = "return localStorage.length + sessionStorage.length + document.cookie.length"
        assert page.driver.execute_script(stored) == 0
        assert "s3cret" not in page.driver.current_url
        statuses = [line["message"] for line in page.driver.get_log("browser")]
        assert all("401" in message for message in statuses), statuses  # of the two attempts
        page.driver.refresh()
        page.until(lambda: page.one("#token-form").is_displayed())
    served.batcher.close()


def test_a_service_that_has_ended_is_told_of(driver: Any, log: PackedLog) -> None:
    served = Served(fading(log))
    with listening(served.gate) as address:
        page = Page(driver, address)
        page.until(page.listed)
    page.one("#typed").send_keys("heat")
    page.until(lambda: page.one("#fault").text == "The service does not answer; is it still running?")
    served.batcher.close()
