"""The page in a headless Chromium: typing, moving, removing, two runs, the token; hostile titles."""

import json
import time
from typing import Any

import numpy as np

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from tests.serving import opened
from tests.serving.live import ask, listening
from tests.serving.opened import ENTER, Page
from tests.serving.served import Served
from tests.serving.test_recommending import CPU, WINDOW, Clock
from tests.serving.titled import HOSTILE, TITLES, fading

driver, log, address, page = opened.driver, opened.log, opened.address, opened.page  # fixtures


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
