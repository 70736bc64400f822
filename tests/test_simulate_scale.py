"""The arithmetic of docs/scale.md: cases worked out by hand, `seqrec plan` where it runs here, and the page itself."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import simulate_scale
from scripts.scale import arithmetic, tables
from scripts.scale.arithmetic import (
    Setting,
    all_reduce_bytes,
    distinct_of_step,
    exchange_bytes,
    fewest_devices,
    lookup_bytes,
    memory,
    parts,
    ring_seconds,
    seconds,
    table_bytes,
    wire_seconds,
)
from scripts.scale.popularity import distinct_rows
from scripts.scale.volumes import (
    Preprocess,
    Serving,
    in_process,
    indexes,
    machines,
    on_disk,
    preprocessing,
    ranking_seconds,
    requests_a_second,
)
from scripts.simulate_scale import BLOCK, main, read_inputs, with_tables
from seqrec_cli.commands import plan
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.training import step_cost

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"


def setting(device: str = "H100", *overrides: str) -> Setting:
    return Setting.of(read_inputs(list(overrides)), device)


# By hand


def test_a_billion_users_take_what_they_take() -> None:
    found = setting()
    assert found.log.events == 1e11
    assert table_bytes(1e8, 128) == {"table": 51.2e9, "moments": 102.4e9, "dense gradient": 51.2e9}
    disk = on_disk(found.log, found.model)
    assert disk["packed log: items_N, int32"] == 400e9
    assert disk["packed log: times_N, int64"] == 800e9
    (prefixes,) = [size for name, size in in_process(found.log).items() if "prefixes" in name]
    assert prefixes == 2.4e12  # three numbers of 8 bytes an event


def test_parameters_and_operations_of_a_block() -> None:
    model = setting("H100", "model.dim=2", "model.ffn=3", "model.blocks=1", "model.length=5").model
    # projections 4 (2x2 + 2), inner layers 2x3 + 3 and 3x2 + 2, two norms of 2 gains and 2 offsets each
    assert model.block_parameters() == 24 + 9 + 8 + 8
    assert model.dense_parameters() == 49 + 5 * 2 + 4
    # multiply-adds of an event: 16 and 12 in products, 7 events x 2 for scores and as many for the weighted sum
    assert model.layer_flops(7) == 3 * 2 * (16 + 12 + 28)
    assert model.loss_flops(10) == 3 * 2 * 10 * 2
    assert model.kept_bytes() == (8 * 2 + 2 * 3) * 2


def test_distinct_rows_are_those_of_the_sum() -> None:
    items, s, draws = 250_000, 1.0, 40_000
    shares = np.arange(1, items + 1, dtype=np.float64) ** -s
    shares /= shares.sum()
    exact = (1 - (1 - shares) ** draws).sum()
    assert distinct_rows(items, s, draws) == pytest.approx(exact, rel=1e-3)
    assert distinct_rows(4, 1e-12, 1) == pytest.approx(1)  # one draw finds one
    assert distinct_rows(2, 1e-12, 2) == pytest.approx(1.5)  # the second one is another half the time
    assert distinct_rows(100, 1.0, 1e9) == pytest.approx(100)


def test_bytes_on_the_wire() -> None:
    assert all_reduce_bytes(100, 4) == 150
    found = setting()
    rows = distinct_of_step(found)
    assert rows < found.targets + found.step.negatives  # popular items are looked up once
    assert lookup_bytes(found, 4) == pytest.approx(rows * (8 + 2 * 128 * 4) * 3 / 4)
    sent = exchange_bytes(found, 4)
    assert sent["whole table on each device, dense gradient, all-reduce"] == pytest.approx(1.5 * 51.2e9, rel=1e-6)
    # queries in bf16 to three others, a maximum and a sum of all targets, three devices' gradients in fp32
    T = found.targets
    assert sent["row-sharded table, softmax over all items"] == 3 * T * 128 * 2 + 1.5 * 2 * 4 * T * 4 + 3 * T * 128 * 4
    assert set(exchange_bytes(found, 1).values()) == {0}


def test_seconds_on_the_wire_are_those_of_the_slower_link() -> None:
    found = setting("H100", "rates.latency=1e-12", "rates.of_network=1")
    assert wire_seconds(found, 7e9, 8, rounds=1) == pytest.approx(7 / 450)  # all within the node
    assert wire_seconds(found, 15e9, 16, rounds=1) == pytest.approx(8 / 50)  # 8 of 15 others are beyond it
    assert wire_seconds(found, 1e9, 1, rounds=9) == 0
    late = setting("H100", "rates.latency=1e-3")
    assert wire_seconds(late, 0, 2, rounds=3) == pytest.approx(3e-3)
    assert ring_seconds(found, 8e9, 8) == pytest.approx(14 / 450)
    assert ring_seconds(found, 8e9, 16) == pytest.approx(14 / 450 + 1 / 50)


def test_memory_is_divided_and_the_fewest_devices_hold_it() -> None:
    one, four = memory(setting(), 1), memory(setting(), 4)
    assert four["table"] == one["table"] / 4
    assert four["moments"] == one["moments"] / 4
    assert four["activations"] == one["activations"]
    assert one["rows of the step"] < four["rows of the step"]  # what is exchanged is held twice
    n = fewest_devices(setting())
    limit = 80e9 * 0.9
    assert sum(memory(setting(), n).values()) <= limit < sum(memory(setting(), n // 2).values())
    assert fewest_devices(setting("CPU")) == 1


def test_a_step_is_its_parts_and_answers_to_each_rate() -> None:
    n = 64
    base = seconds(setting(), n)
    assert base == pytest.approx(sum(parts(setting(), n).values()))
    for rate, part in {
        "of_peak": "loss",
        "of_bandwidth": "layers",
        "of_rows": "table",
        "of_network": "exchange",
    }.items():
        slower = setting("H100", f"rates.{rate}={getattr(setting().rates, rate) / 2}")
        assert parts(slower, n)[part] > 1.5 * parts(setting(), n)[part], rate
    assert parts(setting("H100", "rates.overhead=1"), n)["overhead"] == 1
    assert parts(setting("H100", "rates.passes=24"), n)["layers"] == 2 * parts(setting(), n)["layers"]
    full = parts(setting(), n, full_softmax=True)
    # 6 operations a score and width: T targets of each device, V items
    assert full["loss"] == pytest.approx(6 * 102_400 * 1e8 * 128 / (0.4 * 989e12))
    assert full["exchange"] > parts(setting(), n)["exchange"]


def test_a_batch_divided_costs_less_than_one_device_has_and_more_than_its_share() -> None:
    whole = setting()
    half = whole.of_batch(whole.step.rows / 2)
    assert half.targets == whole.targets / 2
    assert seconds(whole, 8) / 2 < seconds(half, 16) < seconds(whole, 8)


def test_preprocessing_takes_as_long_as_its_slowest_part() -> None:
    log = setting().log
    cost = Preprocess(
        events_a_core=1e6, shuffled_bytes=10, shuffles=2, cores_a_node=10, network=1e9, disk=1e9
    )  # of 1e11 events: 1e4 s of processors; 2e12 bytes shuffled; 2.4e12 read, and what is shuffled written and read
    found = preprocessing(log, cost, 1)
    assert found == pytest.approx(
        {
            "processors": 1e4 / 3600,
            "network": 0,
            "disks": 6400 / 3600,
            "hours": 1e4 / 3600,
            "spilled a node": 1e12,
        }
    )
    assert preprocessing(log, cost, 2)["network"] * 3600 == pytest.approx(2e12 / 2 / 2e9)


def test_ranking_and_serving() -> None:
    found = ranking_seconds(setting(), 1e6, 64)
    assert found["products"] == pytest.approx(1e6 * 2 * 1e8 * 128 / 64 / (0.4 * 989e12))
    assert found["scores"] == pytest.approx(3e6 * 1e8 * 2 / 64 / (0.6 * 3.35e12))
    cost = Serving(
        requests_a_user_and_day=86.4,
        peak=2,
        cores=4,
        memory_bandwidth=4e9,
        codes=8,
        lists=1000,
        probed=10,
        graph_links=4,
        graph_visited=100,
        read_seconds=1e-6,
    )
    log, model = setting().log, setting("H100", "model.dim=32").model
    kinds = indexes(log, model, cost)
    assert kinds["flat"] == {"bytes": 12.8e9, "ms": 12.8e3}
    assert kinds["hnsw"] == pytest.approx({"bytes": 1e8 * (128 + 32), "ms": 100 * (1e-3 + 128 / 1e6)})
    assert kinds["ivfpq"] == pytest.approx({"bytes": 1e8 * 16 + 128_000, "ms": (8e6 + 128_000) / 1e6})
    assert requests_a_second(log, cost) == pytest.approx(2e6)
    # 12.8 s of a core a query, half of four cores used; encoding takes no time on such a core
    assert machines(log, model, cost, kind="flat", encode_flops=1e30) == pytest.approx(2e6 * 12.8 / 2)


# Beside `seqrec plan`


@pytest.mark.parametrize(("dim", "blocks", "length"), [(32, 1, 24), (48, 2, 40)])
def test_the_formulas_are_those_of_plan(
    dim: int, blocks: int, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users of one length, so that nothing is padded: parameters and fixed memory to the number, operations within 1 %,
    activations within a quarter."""
    monkeypatch.setattr(step_cost, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(plan, "EVALUATION_SECONDS", 1e-9)
    users, items, K = 48, 97, 64
    rng = np.random.default_rng(0)
    rows = [
        f"{u},{(u + 7 * k + int(rng.integers(3)) * 11) % items},{k}" for u in range(users) for k in range(length + 3)
    ]
    file = tmp_path / "log.csv"
    file.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    words = ["dataset=csv", f"dataset.archive={file}", "dataset.user_column=user", "dataset.item_column=item"]
    words += ["dataset.time_column=time", "dataset.duplicates=keep", "dataset.time_unit=order"]
    words += [f"data_dir={tmp_path / 'data'}", "model=sasrec", f"model.embed_dim={dim}", f"model.blocks={blocks}"]
    words += [f"model.ffn_dim={4 * dim}", f"model.max_length={length}", "model.temperature=null", "model.dropout=0.2"]
    words += ["objective=sampled_softmax", f"objective.negatives={K}", "objective.window=last"]
    words += ["hardware.embedding=sparse", "hardware.precision=fp32", "hardware.device=cpu"]
    words += ["trainer.batch_size=48", "trainer.max_epochs=1"]
    found: Any = plan.main(validate("plan", compose("plan", words)))
    of_model = [f"model.dim={dim}", f"model.ffn={4 * dim}", f"model.blocks={blocks}", f"model.length={length}"]
    ours = setting("CPU", *of_model, "model.activation_bytes=4", f"log.items={items}")
    table = table_bytes(items + 1, dim)
    assert found["parameters"]["item_table"] * 4 == table["table"]
    assert found["parameters"]["total"] == ours.model.dense_parameters() + found["parameters"]["item_table"]
    dense = ours.model.dense_parameters() * 4
    assert found["memory"]["optimizer"] == table["moments"] + 2 * dense
    assert found["memory"]["gradients"] == dense  # row-sparse gradients are no part of it
    events = users * length
    expected = events * (ours.model.layer_flops(length) + ours.model.loss_flops(K))
    assert found["flops"]["epoch"] == pytest.approx(expected, rel=0.01)
    kept = events * ours.model.kept_bytes()
    assert found["memory"]["activations"] == pytest.approx(kept, rel=0.25)


# The page and the command


def test_the_page_has_the_tables_that_the_script_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = {name: text.strip() for _, name, text, _ in BLOCK.findall(page)}
    printed = tables.all_tables(read_inputs([]))
    assert shown == printed, "python -m scripts.simulate_scale --page docs/scale.md"


def test_every_input_reaches_a_table() -> None:
    """An input changed much changes something that is printed."""
    inputs = read_inputs([])
    before = tables.all_tables(inputs)
    for section, values in inputs.items():
        for name, value in values.items():
            found = {f"{section}.{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {}
            for key, each in (found or {f"{section}.{name}": value}).items():
                if key == "accelerators.CPU.link":  # a node that is one device has no links within
                    continue
                other = 2 if each == 1 else each / 8
                assert tables.all_tables(read_inputs([f"{key}={other}"])) != before, key


def test_the_command_prints_what_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["log.items=1000", "--tables", "tables,ranking"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tables\n\n| table of |")
    assert "| items | 64 | 256 kB |" in out
    assert "scaling" not in out
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: distinct -->\nold\n<!-- end -->\nafter\n")
    assert main(["--page", str(page)]) == 0
    assert re.fullmatch(
        r"before\n<!-- table: distinct -->\n\nDifferent rows.*\n\n<!-- end -->\nafter\n", page.read_text()
    )
    with pytest.raises(KeyError):
        with_tables("<!-- table: none -->\n\n<!-- end -->", {})


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("log.user=5", "log.user=5: no such input; they are in"),
        ("log=5", "log=5: no such input"),
        ("rates.of_peak", "rates.of_peak: no such input"),
        ("log.users=many", "log.users=many: expected a number"),
        ("log.users=0", "log.users=0: expected a number above 0"),
        ("log.users=nan", "expected a number above 0"),
    ],
)
def test_a_wrong_input_is_refused(word: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert says in capsys.readouterr().err


def test_an_unknown_table_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate_scale.main(["--tables", "disk,nothing"]) == 2
    assert "no table nothing; there are disk, tables" in capsys.readouterr().err


def test_sizes_are_short() -> None:
    assert [tables.size(x) for x in (12, 1536, 999.9e6, 51.2e9, 1.2e15)] == [
        "12 B",
        "1.54 kB",
        "1.00 GB",
        "51.2 GB",
        "1,200 TB",
    ]
    assert [tables.span(x) for x in (1 / 7200, 0.5, 1.25, 30, 17532)] == [
        "0.50 s",
        "30.0 min",
        "1.25 h",
        "1.25 days",
        "2.00 years",
    ]
    assert arithmetic.MOMENTS == 2
