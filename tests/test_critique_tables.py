"""The tables of docs/critique from kept results: rates, comparisons, bold, and the committed pages."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts import critique_pairs
from scripts.critique_arms import (
    PAGES,
    Arm,
    Run,
    arm_of,
    chosen,
    compared_arms,
    read_lines,
    read_tables,
    tried,
    wanted,
)
from scripts.critique_runs import PAIRED, RESULTS, compare_users
from scripts.critique_summary import MARKED, read_summary, summarised
from scripts.critique_summary import PAGE as OVERVIEW
from scripts.critique_tables import Kept, clearly_apart, read_kept, rewritten
from seqrec_cli.config.errors import SeqrecError
from tests.critique_toys import THREE, row_of_no_run


def test_validation_chooses_the_rate_once_all_have_been_tried() -> None:
    tables: Any = {"t": {"page": "p.md", "logs": {"l": ["a=1"]}, "arms": {"x": ["b=2"]}, "rates": [0.1, 0.2]}}
    arm = arm_of(tables, "t", log="l", arm="x")
    own, slow, fast = tried(tables, arm)
    assert (own, slow.settings, fast.settings) == (
        arm,
        ("a=1", "b=2", "trainer.lr=0.1"),
        ("a=1", "b=2", "trainer.lr=0.2"),
    )
    results: Any = {Run(own, 0): {"val": {"ndcg@10": 0.1}}, Run(slow, 0): {"val": {"ndcg@10": 0.3}}}
    assert chosen(tables, arm, results) == own
    results[Run(fast, 0)] = {"val": {"ndcg@10": 0.2}}
    assert chosen(tables, arm, results) == slow
    assert wanted(tables, results, only=["t"], logs=["l"], seeds=[0, 1]) == [
        *(Run(each, 0) for each in (own, slow, fast)),
        Run(slow, 1),
    ]


def test_every_arm_is_compared_with_the_first_over_all_seeds_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again when there is another seed, and not when there is none; and the table's pairs."""
    tables = {"t": THREE["t"] | {"pairs": [["y", "z"]]}}
    asked: list[tuple[str, str, list[int]]] = []

    def heard(first: Arm, arm: Arm, seeds: list[int], work: Path) -> dict[str, Any]:
        asked.append((first.name, arm.name, seeds))
        return {"first": [*first[:3], [*first.settings]], "arm": [*arm[:3], [*arm.settings]], "seeds": seeds}

    monkeypatch.setattr(critique_pairs, "compared", heard)
    monkeypatch.setattr(critique_pairs, "has_ranks", lambda run, work: True)
    arms, seeds = [arm_of(THREE, "t", log="l", arm=name) for name in "xyz"], []
    for seed in (0, 1):
        seeds.append(seed)
        rows = [row_of_no_run(arm, each) for arm in arms for each in seeds]
        (tmp_path / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        for _ in range(2):
            compare_users(tmp_path, tables, tmp_path)
        named = [("x", "y"), ("x", "z"), ("y", "z")]
        assert asked == [(*names, seeds) for names in named]
        rows = read_lines(tmp_path / PAIRED)
        assert [(row["first"][2], row["arm"][2], row["seeds"]) for row in rows] == [(*names, seeds) for names in named]
        asked.clear()


def test_other_arms_are_compared_too_where_a_table_names_them() -> None:
    tables: Any = {"t": THREE["t"] | {"pairs": [["y", "z"], ["z", "x"]]}}
    arms = {name: arm_of(tables, "t", log="l", arm=name) for name in "xyz"}
    named = [("x", "y"), ("x", "z"), ("y", "z"), ("z", "x")]
    assert compared_arms(tables, "t", log="l", results={}) == [(arms[a], arms[b]) for a, b in named]
    results: Any = {Run(arm, 0): row_of_no_run(arm, 0) for arm in arms.values()}
    told = {"table": "t", "seeds": [0], "difference": 0.01, "half": 0.002, "each": [0.01]}
    pair = told | {key: [*arms[a][:3], [*arms[a].settings]] for key, a in (("first", "y"), ("arm", "z"))}
    page = rewritten("<!-- table: t, l, pairs -->\n\n<!-- end of table -->", tables, Kept(results, [pair]))
    assert "| z | y | 0 | +.0100 ± .0020 | 1 of 1 |\n\nNot yet measured: x less z.\n" in page
    with pytest.raises(SeqrecError, match="pair is not in the table's `also`"):
        rewritten("<!-- table: t, l, pair -->\n\n<!-- end of table -->", tables, Kept(results, []))


def test_what_is_clear_is_so_for_all_arms_together() -> None:
    values = {"a": 1.05, "b": 0.2, "c": -2.0}
    beside = {name: {"difference": value, "half": 1.0, "each": [value, value]} for name, value in values.items()}
    assert clearly_apart({"a": beside["a"]}) == {"a"}
    assert clearly_apart(beside) == {"c"}
    assert clearly_apart(beside | {"c": {"difference": -2.0, "half": 1.0, "each": [-4.5, 0.5]}}) == set()


def test_the_committed_pages_are_what_the_committed_results_give() -> None:
    tables, kept = read_tables(PAGES / "arms.yaml"), read_kept(PAGES)
    written = set()
    for page in {table["page"] for table in tables.values()}:
        text = (PAGES / page).read_text(encoding="utf-8")
        assert rewritten(text, tables, kept) == text, f"{page}: python -m scripts.critique_runs --tables-only"
        written |= {tuple(name.split(", ")[:2]) for name in re.findall(r"<!-- table: (.*?) -->", text)}
    text = (PAGES / OVERVIEW).read_text(encoding="utf-8")
    assert MARKED.search(text)
    assert summarised(text, read_summary(PAGES), tables, kept) == text
    shown = {arm_of(tables, name, log=log, arm=arm)[:3] for name, log in written for arm in tables[name]["arms"]}
    assert shown
    assert {run.arm[:3] for run in kept.results} <= shown, "results that no page shows"
