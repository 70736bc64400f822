"""What a product's default cases hold, and that the others are run by night."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.covering import covering

ROOT = Path(__file__).resolve().parents[1]


def halves(cases: list[Any]) -> tuple[list[Any], list[Any]]:
    """Without the mark, and with it."""
    by_night = [case.values for case in cases if hasattr(case, "marks")]
    assert all([mark.name for mark in case.marks] == ["exhaustive"] for case in cases if hasattr(case, "marks"))
    return [case for case in cases if not hasattr(case, "marks")], by_night


def test_each_value_has_a_case_and_no_case_is_lost() -> None:
    product = [*itertools.product("abcdefg", range(4))]
    found = covering(product)
    by_default, by_night = halves(found)
    assert {letter for letter, _ in by_default} == set("abcdefg")
    assert {number for _, number in by_default} == set(range(4))
    assert len(by_default) == 7  # as few as there can be
    assert sorted([*by_default, *by_night]) == product
    assert [getattr(case, "values", case) for case in found] == product


def test_partners_are_spread() -> None:
    by_default, _ = halves(covering([*itertools.product("abcdef", range(3))], times=2))
    assert len(by_default) == 12
    assert all(sum(number == n for _, number in by_default) == 4 for n in range(3))
    assert len(set(by_default)) == 12


def test_what_there_is_once_stays() -> None:
    cases = [("a", 1), ("a", 2), ("a", 3), ("b", 3)]
    by_default, by_night = halves(covering(cases))
    assert (by_default, by_night) == ([("a", 1), ("a", 2), ("b", 3)], [("a", 3)])


def test_parts_may_be_some_of_a_case_or_made_of_it() -> None:
    cases = [["a", "x", "1"], ["a", "y", "2"], ["b", "x", "3"], ["b", "y", "4"]]
    by_default, by_night = halves(covering(cases, lambda words: words[:2]))
    assert len(by_default) == 2
    assert {words[0] for words in by_default} == {"a", "b"}
    assert {words[1] for words in by_default} == {"x", "y"}
    assert all(len(case) == 1 for case in by_night)  # one argument of the test: the list
    assert halves(covering(cases, lambda words: [tuple(words[:2])]))[1] == []


def test_what_is_left_out_by_default_is_run_by_night(pytestconfig: pytest.Config) -> None:
    assert any(mark.startswith("exhaustive:") for mark in pytestconfig.getini("markers"))
    assert "-m 'not exhaustive'" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    night = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8"))
    assert night[True]["schedule"]  # `on`, as YAML 1.1 reads it
    steps = [step.get("run", "") for job in night["jobs"].values() for step in job["steps"]]
    assert any(step.startswith("pytest ") and "-m exhaustive" in step for step in steps)
