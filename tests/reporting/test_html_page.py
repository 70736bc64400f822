"""Pages in one file: well-formed, escaped, and plots that say what they are given."""

import xml.etree.ElementTree as ElementTree

import pytest

from seqrec_cli.reporting.html_page import heading, html_table, note, page
from seqrec_cli.reporting.svg import Bar, forest, rising, ticks


def test_a_page_is_whole_and_escaped() -> None:
    text = page("a < b", [heading("x & y"), note("<script>"), html_table(["run", "mrr"], [["<r>", "0.1"]], text=1)])
    root = ElementTree.fromstring(
        text.replace("<!doctype html>\n", "")
        .replace('<meta charset="utf-8">', "")
        .replace('<meta name="viewport" content="width=device-width, initial-scale=1">', "")
    )
    assert root.findtext("body/h1") == "a < b"
    assert root.findtext("body/p") == "<script>"
    cells = [cell.text for cell in root.iter("td")]
    assert cells == ["<r>", "0.1"]
    assert [cell.get("class") for cell in root.iter("td")] == ["text", None]


def test_a_forest_shows_each_interval_to_scale() -> None:
    bars = [Bar("better", 0.02, 0.01, 0.03), Bar("<unsure>", 0.0, -0.01, 0.01)]
    root = ElementTree.fromstring(forest(bars, zero=True))
    middles = [float(each.get("cx")) for each in root.iter("circle")]
    spans = [
        (float(line.get("x1")), float(line.get("x2")), line.get("class"))
        for line in root.iter("line")
        if line.get("stroke-width") == "2"
    ]
    assert [kind for _, _, kind in spans] == ["mark", "unsure"]
    assert (spans[0][0] - spans[1][0]) / (spans[0][1] - spans[0][0]) == pytest.approx(1, abs=0.01)
    assert middles[0] == pytest.approx(sum(spans[0][:2]) / 2, abs=0.1)
    assert any(text.text == "+0.0200 [+0.0100, +0.0300]" for text in root.iter("text"))
    (zero,) = [line for line in root.iter("line") if line.get("stroke-width") == "1.5"]
    assert float(zero.get("x1")) == pytest.approx(middles[1], abs=0.1)
    assert ElementTree.fromstring(forest([Bar("same", 0.0, 0.0, 0.0)], zero=True)) is not None


def test_lines_rise_with_the_cutoff() -> None:
    root = ElementTree.fromstring(rising(["a", "b"], [1, 10, 100], [[0.1, 0.2, 0.4], [0.0, 0.1, 0.2]]))
    points = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in root.iter("polyline")
    ]
    across = [x for x, _ in points[0]]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)  # logarithmic
    assert points[0][0][1] - points[0][1][1] == pytest.approx(points[1][0][1] - points[1][1][1], abs=0.2)
    assert ElementTree.fromstring(rising(["a"], [1], [[0.0]])) is not None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.013, 0.021, [-0.01, 0, 0.01, 0.02]), (3, 3, [3])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
