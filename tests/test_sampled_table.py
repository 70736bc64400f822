"""The table of models by what their targets are ranked among."""

from scripts.sampled_table import columns, lines


def test_columns_and_who_is_ahead_where() -> None:
    def kinds(full: float, sampled: float, cls: float) -> dict:
        def every(value: float) -> dict[str, float]:
            return {"hr@10": value, "ndcg@10": value / 2, "mrr": value / 4}

        return {
            "full": {"metrics": every(full), "corrected": {}},
            "uniform:9": {"metrics": every(sampled), "corrected": {"CLS": every(cls)}},
        }

    table = columns({"a": kinds(0.2, 0.7, 0.25), "b": kinds(0.1, 0.8, 0.12)})
    assert table["ndcg@10"]["uniform:9, CLS"] == {"a": 0.125, "b": 0.06}
    text = lines("hr@10", table["hr@10"])
    assert text[0] == "| hr@10, among | `a` | `b` | ahead here, behind among full |"
    assert text[2:5] == [
        "| full | **.2000** | .1000 |  |",
        "| uniform:9 | .7000 | **.8000** | b of a |",
        "| uniform:9, CLS | **.2500** | .1200 | none |",
    ]
