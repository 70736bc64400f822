"""Items by what is typed: the order of what is found, case and accents, and no title that breaks the search."""

import random
import time

import numpy as np
import pytest

from seqrec_cli.serving.catalogue_search import ItemSearch, folded

TITLES = [
    "Amélie",
    "The Heat",
    "Heat",
    "Aheat",
    "heat haze",
    "L'Été (1999)",
    "Straße nach Łódź",
    "黑暗騎士",
    "a\nb\tc",
    "",
]
IDS = ["7", "70", "x", "heat", "0700", "12", "13", "14", "15", "16"]


@pytest.fixture(scope="module")
def search() -> ItemSearch:
    return ItemSearch(IDS, TITLES, np.arange(1, 11))


def titles(found: list[int]) -> list[str]:
    return [TITLES[item - 1] for item in found]


def test_ids_then_beginnings_then_words_then_letters_inside(search: ItemSearch) -> None:
    assert titles(search.find("heat", 10)) == ["Aheat", "Heat", "heat haze", "The Heat"]  # the first by its id
    assert titles(search.find("eat", 10)) == ["The Heat", "Heat", "Aheat", "heat haze"]
    assert search.find("7", 10) == [1, 2, 5]  # the id, an id that begins so, an id that holds it
    assert titles(search.find("heat", 2)) == ["Aheat", "Heat"]


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("AMELIE", "Amélie"),
        ("ame\u0301l", "Amélie"),
        ("amélie", "Amélie"),
        ("l'ete", "L'Été (1999)"),
        ("(19", "L'Été (1999)"),
        ("1999", "L'Été (1999)"),
        ("strasse  nach lodz", "Straße nach Łódź"),
        ("lodz", "Straße nach Łódź"),
        ("lodz strasse", "Straße nach Łódź"),
        ("騎士", "黑暗騎士"),
        ("b c", "a\nb\tc"),
        ("nach stra lo", "Straße nach Łódź"),
        ("heat\tx", "Heat"),  # a word of the title, and the id
    ],
)
def test_case_accents_and_order_of_words_do_not_matter(search: ItemSearch, typed: str, title: str) -> None:
    assert titles(search.find(typed, 10)) == [title]


@pytest.mark.parametrize("typed", ["zz", "haze heat zz", "\ud800", "éx", "heat\n71", "70\nx", "haze h z", "nach na"])
def test_what_is_nowhere_is_not_found(search: ItemSearch, typed: str) -> None:
    assert search.find(typed, 10) == []


def test_the_order_given_decides_among_equals() -> None:
    order_V = np.array([3, 1, 2])
    search = ItemSearch([1, 2, 3], ["one day", "one night", "one week"], order_V)
    assert search.find("one", 3) == [3, 1, 2]
    assert search.find("on", 2) == [3, 1]
    assert search.find("", 2) == [3, 1]
    assert ItemSearch([10, 11, 20], None, order_V).find("1", 5) == [1, 2]
    assert ItemSearch([], None, np.zeros(0, np.int64)).find("a", 5) == []


def test_folding_twice_changes_nothing() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(chr(draw.choice([draw.randrange(32, 127), draw.randrange(0xA0, 0x2FF)])) for _ in range(12))
        assert folded(folded(text)) == folded(text)
    assert folded("  Ä\u00a0\n b ") == "a b"


def test_nothing_that_holds_the_letters_is_missed() -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices("ab c", k=draw.randint(0, 6))) for _ in range(300)]
    search = ItemSearch(list(range(1000, 1300)), texts, np.arange(1, 301))
    for typed in ("a", "ab", "b c", "ca", "abc", "a b", "cc"):
        expected = {item for item, text in enumerate(texts, 1) if typed in folded(text)}
        found = search.find(typed, 300)
        assert len(found) == len(set(found))
        assert expected <= set(found)
        words = typed.split()
        for text in (folded(texts[item - 1]) for item in found):
            assert typed in text or all(any(each.startswith(word) for each in text.split()) for word in words)


def test_a_hundred_thousand_titles_are_searched_while_somebody_types() -> None:
    draw = random.Random(2)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(draw.choices(words, k=4)) for _ in range(100_000)]
    search = ItemSearch(list(range(100_000)), texts, np.arange(1, 100_001))
    took = []
    for typed in ("e", "the", "zzzz", "e t", words[7], f"{words[1]} {words[2]}", "9999"):
        started = time.perf_counter()
        search.find(typed, 10)
        took.append(time.perf_counter() - started)
    assert sorted(took)[len(took) // 2] < 0.1  # seconds; a few milliseconds on an idle core
