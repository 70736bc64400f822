"""`seqrec plan`: the numbers, the warning, and nothing left behind."""

from pathlib import Path

import pytest
import torch

import seqrec_cli
from seqrec_cli import cli
from seqrec_cli.commands import plan, train
from seqrec_cli.commands.plan import parameters_by_part
from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.validate import dump, validate
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.build import build_model
from seqrec_cli.training import log_place, memory, step_cost
from seqrec_cli.training.memory import in_bytes

TINY = [
    "trainer=next_item",
    "dataset=synthetic",
    "dataset.users=120",
    "dataset.items=60",
    "dataset.max_events=30",
    "hardware.device=cpu",
]
LAST = ["objective.window=last"]
SMALL = ["model.embed_dim=16", "model.blocks=1", "model.heads=2", "model.ffn_dim=32", "model.max_length=20"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "TIMED_SECONDS", 0.05)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*TINY, f"data_dir={tmp_path_factory.mktemp('plan') / 'data'}"]


def test_plan_takes_the_settings_of_train() -> None:
    said = ["model=bst", "trainer.lr=0.5", "run_dir=x"]
    assert dump(validate("plan", compose("plan", said))) == dump(validate("train", compose("train", said)))


def test_parameters_of_sasrec_by_hand(words: list[str]) -> None:
    found = seqrec_cli.run("plan", [*words, "model=sasrec", *SMALL])
    D, F, L = 16, 32, 20
    block = (D + 1) * D + (D + 1) * 2 * D + (D + 1) * D + (D + 1) * F + (F + 1) * D + 2 * 2 * D
    items = int(found["parameters"]["item_table"] / D) - 1
    assert 40 <= items <= 60
    assert found["parameters"] == {
        "total": (items + 1) * D + L * D + block + 2 * D,
        "item_table": (items + 1) * D,
        "positions": L * D,
        "blocks": block,
        "rest": 2 * D,
    }
    assert found["memory"]["model"] == found["memory"]["gradients"] == 4 * found["parameters"]["total"]
    assert found["memory"]["optimizer"] == 8 * found["parameters"]["total"]


def test_sparse_rows_keep_no_gradient_of_the_table(words: list[str]) -> None:
    sparse = ["objective=sampled_softmax", "hardware.embedding=sparse"]
    found = seqrec_cli.run("plan", [*words, "model=sasrec", *SMALL, *sparse])
    parameters = found["parameters"]
    assert found["memory"]["gradients"] == 4 * (parameters["total"] - parameters["item_table"])
    assert found["memory"]["optimizer"] == 8 * parameters["total"]
    assert found["time"]["epoch"] > 0


@pytest.mark.parametrize("model", ["sasrec", "bst"])
def test_every_number_is_there_and_no_run(
    words: list[str], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", *words, f"model={model}", *SMALL, "trainer.batch_size=64", "trainer.max_epochs=3"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "parameters",
        "activations",
        "steps an epoch",
        "work of a step",
        "time of an epoch",
        "time of the run",
    ):
        assert line in printed
    assert ("scratch of the loss" in printed) == (model == "sasrec")
    assert "WARNING" not in printed
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_agree(words: list[str]) -> None:
    found = seqrec_cli.run("plan", [*words, *LAST, *SMALL, "trainer.batch_size=16", "trainer.max_epochs=4"])
    steps, flops, times, memory_ = found["steps"], found["flops"], found["time"], found["memory"]
    assert steps == {"epoch": 8, "total": 32}
    assert flops["step"] == pytest.approx(flops["epoch"] / 8)
    assert times["flops_per_second"] == pytest.approx(flops["epoch"] / times["epoch"])
    assert (times["epochs"], times["evaluations"]) == (4, 6)
    assert times["run"] == pytest.approx(4 * times["epoch"] + 6 * times["evaluation"])
    parts = ("model", "gradients", "optimizer", "activations", "loss_scratch", "kept_free", "log")
    assert memory_["total"] == sum(memory_[part] for part in parts) < memory_["available"]
    assert memory_["log"] == 0  # on a CPU batches are cut from the mapped files
    assert found["warning"] is None


def test_events_that_lie_on_the_device_are_counted_and_printed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    def placed(where: str, log: PackedLog, device: torch.device) -> torch.device:
        asked.append((where, len(log.items_N)))
        return torch.device("cuda")

    shape = [*words, *SMALL, "trainer.batch_size=16", "hardware.log=device"]
    without = seqrec_cli.run("plan", shape)["memory"]
    assert "the log's events" not in capsys.readouterr().out
    monkeypatch.setattr(log_place, "log_device", placed)
    found = seqrec_cli.run("plan", shape)["memory"]
    [(where, events)] = asked
    assert where == "device"
    assert found["log"] == events * (4 + 8) > 0  # items and times
    assert found["total"] == sum(found[part] for part in without if part not in ("total", "available"))
    assert f"the log's events {in_bytes(found['log'])}" in " ".join(capsys.readouterr().out.split())


def test_an_epochs_flops_are_those_of_its_batches(words: list[str]) -> None:
    """Windows of one length: what a few rows take stands for all."""
    long = ["dataset.max_events=30", "model.max_length=8", "trainer.batch_size=16"]
    found = seqrec_cli.run("plan", [*words, *LAST, *SMALL, *long])
    D, F, L = 16, 32, 8
    items = found["parameters"]["item_table"] // D - 1
    token = 2 * (4 * D * D + 2 * D * F) + 2 * 2 * D * L + 2 * D * items
    users = 120
    assert found["flops"]["epoch"] == pytest.approx(3 * token * users * L, rel=0.05)


def test_unfinished_epochs_are_validated_too(words: list[str]) -> None:
    shape = [*words, *LAST, *SMALL, "trainer.batch_size=16", "trainer.max_epochs=9", "trainer.evaluate_every=2"]
    found = seqrec_cli.run("plan", [*shape, "trainer.max_steps=20"])
    assert found["steps"]["total"] == 20
    assert found["time"]["epochs"] == 2.5
    assert found["time"]["evaluations"] == 2 + 2  # after epoch 2, and after the last step


def test_every_seed_takes_its_time(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shape = [*words, *SMALL, "trainer.batch_size=16", "trainer.max_epochs=4", "trainer.seeds=3"]
    times = seqrec_cli.run("plan", shape)["time"]
    assert times["run"] == pytest.approx(3 * (4 * times["epoch"] + 6 * times["evaluation"]))
    assert "3 seeds" in " ".join(capsys.readouterr().out.split())


def test_a_mixture_counts_its_members_tables(words: list[str]) -> None:
    counts = parameters_by_part(built(words, "ensemble"))
    members = [parameters_by_part(built(words, name)) for name in ("sasrec", "lrurec", "gru4rec")]
    assert counts["item_table"] == sum(each["item_table"] for each in members) > 0


def built(words: list[str], name: str) -> torch.nn.Module:
    cfg = validate("train", compose("train", [*words, f"model={name}"]))
    assert isinstance(cfg, plan.TrainConfig)
    return build_model(cfg.model, Catalog(8, 9), 0)


def test_activations_grow_with_the_batch(words: list[str]) -> None:
    sizes = []
    for rows in (10, 20, 40):
        found = seqrec_cli.run("plan", [*words, *SMALL, "model.max_length=8", f"trainer.batch_size={rows}"])
        sizes.append(found["memory"]["activations"])
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.2)


def test_warns_and_times_nothing(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda device: 2_000_000)
    monkeypatch.setattr(plan, "timed_steps", lambda *given, **named: pytest.fail("timed"))
    assert cli.main(["plan", *words, *SMALL, "trainer.batch_size=128"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("WARNING: out of memory ahead")
    assert "lower trainer.batch_size (now" in last


def test_warns_of_a_model_that_cannot_even_be_built(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda device: 2_000_000)
    monkeypatch.setattr(plan, "training_rows", lambda *given, **named: pytest.fail("went on"))
    found = seqrec_cli.run("plan", [*words, "model.embed_dim=2048", "model.heads=1"])
    assert "model.embed_dim" in found["warning"]
    assert found["memory"]["activations"] == 0
    assert found["steps"] is found["time"] is None


def test_train_warns_before_its_first_step(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 100_000)

    def refuse(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", refuse)
    with pytest.raises(KeyboardInterrupt):
        seqrec_cli.run("train", [*words, *SMALL, f"run_dir={tmp_path / 'run'}"])
    assert "WARNING: out of memory ahead" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["popular", "markov", "itemknn", "graph", "ease"])
def test_counting_models_have_nothing_to_fit(words: list[str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("plan", [*words, f"model={model}"])
    assert found["nothing_to_fit"] is True
    assert 0 < found["time"]["fit"] < 60
    assert found["memory"]["total"] == found["memory"]["model"] + found["memory"]["fitting"] > 0
    assert "there is nothing to fit" in capsys.readouterr().out


@pytest.mark.parametrize("model", groups()["model"])
def test_a_model_without_storage_has_the_same_parameters(model: str) -> None:
    catalog = Catalog(
        8,
        9,
        (Attribute("genre", 4, 2),),
        (Attribute("segment", 3, 1),),
        {"genre": torch.ones(10, 2).numpy()},
        {"segment": torch.ones(9, 1).numpy()},
    )
    cfg = validate("train", compose("train", [f"model={model}"]))
    assert isinstance(cfg, plan.TrainConfig)
    with torch.device("meta"):
        sketch = build_model(cfg.model, catalog, 0)
    assert parameters_by_part(sketch) == parameters_by_part(build_model(cfg.model, catalog, 0))
    assert all(p.device.type == "meta" for p in sketch.parameters())


def test_a_long_run_is_told_what_to_cut(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("seqrec_cli.reporting.advice.SLOW_SECONDS", 1e-9)
    assert cli.main(["plan", *words, *SMALL]) == 0
    assert "cut in this order: model.max_length (now 20), model.embed_dim (now 16)" in capsys.readouterr().out
