"""Tables: the numbers, the baselines, the protocol, at 80 columns."""

import io

from rich.console import Console

from seqrec_cli.metrics.table import metric_names
from seqrec_cli.reporting.tables import print_table, protocol_line, results_table, shown_metrics

NAMES = metric_names((5, 10, 20))
BASELINES = {
    "oracle": dict.fromkeys(NAMES, 0.9),
    "popular": dict.fromkeys(NAMES, 0.2),
    "markov": {name: 0.15 for name in NAMES if name != "auc"},
    "random": dict.fromkeys(NAMES, 0.01),
}
COUNTS = {
    "held_out_targets": 6040,
    "repeated_targets": 0,
    "left_out_repeats": 0,
    "requests": 6040,
    "targets": 6040,
    "users": 6040,
    "requests_of_cold_users": 0,
    "cold_targets": 0,
}
RULES = {
    "dataset": "ml-1m",
    "fingerprint": "0123456789abcdef",
    "split": "test",
    "targets": "each user's last event",
    "counts": COUNTS,
    "candidates": "whole corpus",
    "items": 3416,
    "seen_items": "removed: all",
    "max_length": 200,
    "name": "leave_last",
}
PROTOCOL = protocol_line(RULES)

SAID = {"title": "t", "protocol": PROTOCOL}


def metrics() -> dict[str, float]:
    return {name: 0.1 + place / 1000 for place, name in enumerate(NAMES)}


def printed(table, width: int = 80, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    print_table(table, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def rows(text: str) -> dict[str, list[str]]:
    """Lines of the table by label: the cells behind it."""
    found = {}
    for line in text.splitlines():
        cells = line.split()
        values = [cell for cell in cells if cell == "-" or cell.replace(".", "", 1).isdigit()]
        if len(values) >= 7:
            found[" ".join(cells[: len(cells) - 7])] = cells[-7:]
    return found


def test_every_number_stands_in_80_columns():
    mine = metrics()
    text = printed(
        results_table(
            "sasrec", mine, BASELINES, title="test: sasrec on ml-1m", protocol=PROTOCOL, validation={**mine, "mrr": 0.5}
        )
    )
    assert max(map(len, text.splitlines())) <= 80
    shown = ("hr@10", "ndcg@10", "mrr", "corpus_auc", "auc", "gauc", "logloss")
    header = next(line for line in text.splitlines() if "hr@10" in line)
    assert tuple(header.split()) == shown
    found = rows(text)
    assert list(found) == ["sasrec", "random", "most popular", "last-item Markov", "oracle", "sasrec, val"]
    assert found["sasrec"] == [f"{mine[name]:.4f}" for name in shown]
    assert found["last-item Markov"] == ["0.1500"] * 4 + ["-"] + ["0.1500"] * 2
    assert found["most popular"] == ["0.2000"] * 7
    assert found["oracle"] == ["0.9000"] * 7
    assert found["sasrec, val"][2] == "0.5000"
    assert "\x1b" not in text


def test_protocol_and_oracle_are_explained():
    text = " ".join(printed(results_table("sasrec", metrics(), BASELINES, **SAID)).split())
    for fact in (
        "ml-1m 0123456789ab;",
        "each user's last event",
        "whole corpus (3,416 items)",
        "seen items removed",
        "ties at their mean",
        "max_length 200",
        "generating process's own score",
    ):
        assert fact in text
    assert "(" not in PROTOCOL.split(", ranked")[0]  # nothing but the familiar
    several = COUNTS | {"targets": 9000, "repeated_targets": 604, "requests_of_cold_users": 40, "cold_targets": 7}
    line = protocol_line(RULES | {"counts": several, "candidates": "uniform:100", "seen_items": "kept: all"})
    for fact in (
        "9,000 targets in 6,040 requests of 6,040 users",
        "10.0% of targets repeat an item of their history;",
        "40 requests of users who did not train",
        "7 targets that never trained",
        "uniform:100 candidates",
        "seen items kept",
    ):
        assert fact in line
    assert "history, left out" in protocol_line(RULES | {"counts": several | {"left_out_repeats": 604}})


def test_without_an_oracle_nothing_speaks_of_one():
    baselines = {name: row for name, row in BASELINES.items() if name != "oracle"}
    assert "oracle" not in printed(results_table("sasrec", metrics(), baselines, **SAID))


def test_without_floors_the_model_stands_alone():
    assert list(rows(printed(results_table("popular", metrics(), {}, **SAID)))) == ["popular"]


def test_the_best_rival_is_bold_and_the_oracle_is_not():
    text = printed(results_table("sasrec", {**metrics(), "mrr": 0.7}, BASELINES, **SAID), terminal=True)
    assert "\x1b[1m0.7000\x1b[0m" in text  # the model's MRR
    assert "\x1b[1m0.0100\x1b[0m" in text  # the lowest logloss: random's, here
    assert "\x1b[1m0.2000\x1b[0m" in text
    assert "\x1b[1m0.9000\x1b[0m" not in text
    assert "\x1b[1m0.1500\x1b[0m" not in text


def test_a_narrow_screen_cuts_no_number():
    found = rows(printed(results_table("a_model_with_a_long_name", metrics(), BASELINES, **SAID), width=72))
    assert ["0.2000"] * 7 in found.values()


def test_without_cutoff_10_the_largest_is_shown():
    assert shown_metrics(metric_names((1, 50)))[:3] == ("hr@50", "ndcg@50", "mrr")


def test_brackets_in_names_are_text():
    assert "[red]x" in printed(results_table("[red]x", metrics(), {}, title="[red]x", protocol=PROTOCOL))


def test_half_of_each_interval_stands_below_the_models_numbers():
    intervals = {"hr@10": [0.09, 0.13], "mrr": [0.1, 0.1004]}
    text = printed(results_table("sasrec", metrics(), BASELINES, **SAID, intervals=intervals))
    lines = text.splitlines()
    (below,) = [nth for nth, line in enumerate(lines) if line.split()[:1] == ["±"]]
    assert lines[below - 1].split()[0] == "sasrec"
    assert lines[below].split()[1:] == ["0.0200", "-", "0.0002", "-", "-", "-", "-"]
    assert "±: half of the 95 % interval" in text
    assert max(map(len, lines)) <= 80
    assert "±" not in printed(results_table("sasrec", metrics(), BASELINES, **SAID))
