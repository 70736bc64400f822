"""Which cases of a product run by default: enough of them for every value of every factor, and the rest by night.

A fault is in a model, in an objective or in what joins them, and each of these is noticed by any case that it is in.
That every model meets every objective proves little more and takes ten times as long: those cases have the mark
`exhaustive`, which `pytest` leaves out unless it is asked for (`pytest -m exhaustive`, and `nightly.yml` among the
workflows).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import pytest


def by_place(case: tuple[Hashable, ...]) -> Iterable[Hashable]:
    """A case's values, each with its place."""
    return enumerate(case)


def covering(
    cases: Sequence[Any], parts: Callable[[Any], Iterable[Hashable]] = by_place, *, times: int = 1
) -> list[Any]:
    """The cases for `parametrize`, in their order; marked `exhaustive` are those that the others make needless.

    Of `parts` (what a case is made of) each occurs in at least `times` cases without the mark, or in
    all that there are. A case is taken for having most parts that are still wanted, then for those taken least.
    """
    made_of = [list(parts(case)) for case in cases]
    occurs = Counter(part for of_case in made_of for part in of_case)
    kept = {number for number, of_case in enumerate(made_of) if min(map(occurs.__getitem__, of_case)) <= times}
    taken = Counter(part for number in kept for part in made_of[number])

    def use(number: int) -> tuple[int, int]:
        return sum(taken[part] < times for part in made_of[number]), -sum(taken[part] for part in made_of[number])

    while any(taken[part] < min(times, n) for part, n in occurs.items()):
        best = max((number for number in range(len(cases)) if number not in kept), key=use)
        kept.add(best)
        taken.update(made_of[best])
    return [case if number in kept else by_night(case) for number, case in enumerate(cases)]


def by_night(case: Any) -> Any:
    """A case with the mark `exhaustive`."""
    values = case if type(case) is tuple else (case,)  # a named tuple is one argument
    return pytest.param(*values, marks=pytest.mark.exhaustive)
