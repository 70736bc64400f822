"""Items by a part of their title or id, while somebody types it.

All titles and ids stand folded in one text, popular items first, which is searched in C; what begins as typed is found
in sorted lists without a search. Built once: a second for 100,000 items, and some 300 bytes an item.

Legend: V items.
"""

import bisect
import heapq
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

MOST_EXAMINED = 2000  # places where the typed letters occur inside a line; the most popular items' come first
# What Unicode does not take apart into a letter and its accent.
LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t"}
)
WHITE = re.compile(r"[\s\x00-\x1f\x7f]+")
WORDS = re.compile(rb"[0-9a-z\x80-\xff]+")
END, MARK = b"\n", b"\t"  # of an item's line, and of the id in it; in no folded text


def folded(text: str) -> str:
    """Without case, accents and runs of white space, in Unicode's compatibility form."""
    if text.isascii():
        return WHITE.sub(" ", text.lower()).strip()
    apart = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
    return WHITE.sub(" ", plain.casefold().translate(LETTERS)).strip()


class ItemSearch:
    """Finds items whose titles or ids hold what is typed."""

    def __init__(self, ids: Sequence[str | int], titles: Sequence[str] | None, order_V: np.ndarray) -> None:
        """`ids` and `titles` of item 1 first; `order_V` are all items (from 1), the first to be found first."""
        order = order_V.tolist()
        names = [b""] * len(order) if titles is None else [_bytes(titles[item - 1]) for item in order]
        numbers = [_bytes(str(ids[item - 1])) for item in order]
        self._order_V, self._names, self._numbers = order_V, _Sorted(names), _Sorted(numbers)
        lines = [name + MARK + number for name, number in zip(names, numbers, strict=True)]
        self._text = END + END.join(lines) + END
        self._starts_V = np.cumsum([0, *(len(line) + 1 for line in lines)])[:-1]  # each at the END before its line

    def find(self, typed: str, limit: int) -> list[int]:
        """At most `limit` items (from 1): first the one with this id, then those whose title begins so, then ids that
        begin so, then titles with a word that does, then those with the letters anywhere, then those with a word for
        each typed one, which it begins; within each of these in the order given. Of the last three, only what the first
        MOST_EXAMINED places give."""
        return [item for group in self.groups(typed, limit) for item in group][:limit]

    def groups(self, typed: str, limit: int) -> list[list[int]]:
        """The same, those that are found in one way together: six lists, at most `limit` items in all; one list where
        nothing is typed."""
        wanted = _bytes(typed)
        if not wanted:
            return [self._order_V[:limit].tolist()]
        found: dict[int, None] = {}  # lines, in the order of the answer
        ends = []

        def add(lines: Iterable[int]) -> None:
            for line in lines:
                if len(found) < limit:
                    found[line] = None
            ends.append(len(found))

        add(self._numbers.alike(wanted))
        add(self._names.beginning(wanted, limit))
        add(self._numbers.beginning(wanted, limit))
        at_a_word, inside, apart = list[int](), list[int](), list[int]()
        if len(found) < limit:
            for place in itertools.islice(self._places(wanted), MOST_EXAMINED):
                (inside if _of_a_word(self._text[place - 1]) else at_a_word).append(place)
                if len(at_a_word) == 2 * limit:
                    break
        add(self._lines(at_a_word))
        add(self._lines(inside))
        if len(found) < limit and len(words := WORDS.findall(wanted)) > 1:
            apart = list(self._apart(words, limit))
        add(self._lines(apart))
        items = self._order_V[list(found)].tolist()
        return [items[first:end] for first, end in itertools.pairwise([0, *ends])]

    def _places(self, words: bytes) -> Iterator[int]:
        """Where they stand in the text, from the front, one a line."""
        place = self._text.find(words)
        while place >= 0:
            yield place
            # A line's rest may hold them again: the next one is looked for behind it.
            place = self._text.find(words, self._text.find(END, place + 1))

    def _apart(self, words: list[bytes], limit: int) -> Iterator[int]:
        """Places of lines with a word for each of these, in any order."""
        words.sort(key=len, reverse=True)
        given = 0
        for place in itertools.islice(self._places(words[0]), MOST_EXAMINED):
            line = self._text[self._text.rfind(END, 0, place) : self._text.find(END, place)]
            if all(word in line for word in words) and _begin(words, line):  # the former is cheap
                yield place
                given += 1
            if given == 2 * limit:
                return

    def _lines(self, places: list[int]) -> list[int]:
        lines: list[int] = (np.searchsorted(self._starts_V, places, side="right") - 1).tolist()
        return lines


class _Sorted:
    """Lines by their texts, to find those that begin alike without looking at all."""

    def __init__(self, texts: list[bytes]) -> None:
        self._lines = sorted(range(len(texts)), key=texts.__getitem__)
        self._texts = [texts[line] for line in self._lines]

    def alike(self, wanted: bytes) -> list[int]:
        return self._lines[bisect.bisect_left(self._texts, wanted) : bisect.bisect_right(self._texts, wanted)]

    def beginning(self, wanted: bytes, limit: int) -> list[int]:
        """The first `limit` lines, in their order; 255 is in no text, so it ends those that begin so."""
        first, last = bisect.bisect_left(self._texts, wanted), bisect.bisect_left(self._texts, wanted + b"\xff")
        return heapq.nsmallest(limit, self._lines[first:last])


def _bytes(text: str) -> bytes:
    return folded(text).encode("utf-8", "replace")


def _begin(beginnings: list[bytes], line: bytes) -> bool:
    """Whether each begins a word of its own; the longest is looked for first."""
    left = WORDS.findall(line)
    for beginning in beginnings:
        word = next((word for word in left if word.startswith(beginning)), None)
        if word is None:
            return False
        left.remove(word)
    return True


def _of_a_word(byte: int) -> bool:
    """Whether the byte belongs to a word: a letter, a figure, or a part of a letter that is not ASCII."""
    return WORDS.match(bytes([byte])) is not None
