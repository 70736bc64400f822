"""Sizes that no machine has are refused by arithmetic, with the setting to lower, before anything is allocated."""

from pathlib import Path

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands import training_setup
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.models import build
from seqrec_cli.training import limits
from tests.toylog import packed

DATA = ["dataset=synthetic", "dataset.users=40", "dataset.items=40", "dataset.max_events=12", "hardware.device=cpu"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.max_length=1000000000"], r"model with its optimizer: at least .* GiB.*model\.max_length \(now 1,000"),
        (
            ["model.embed_dim=1000000"],
            r"at least .* GiB.* can be had; lower model\.embed_dim \(now 1,000,000\)",
        ),
        (["model.ffn_dim=1000000000"], r"lower .*model\.ffn_dim \(now 1,000,000,000\)"),
        (["model.blocks=1000000"], r"model\.blocks=1000000: expected integer >= 1 and <= 1000"),
        (["model.embed_dim=99999999999999999999"], r"model\.embed_dim: expected a number below 2\^63"),
        (["objective=bce", "objective.negatives=1000000000"], r"sampled items: .*objective\.negatives \(now 1,000,000"),
        (["model=din", "objective.negatives=10000000000"], r"sampled items: .*lower objective\.negatives"),
        (["dataset.users=1000000000000"], r"no memory for dataset\.users=1000000000000"),
        (["hardware.threads=1000000000"], r"hardware\.threads=1000000000: expected integer >= 1 and <= 4096"),
    ],
)
def test_an_absurd_size_is_refused(
    tmp_path_factory: pytest.TempPathFactory, settings: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_meta_alone(*given: object) -> object:
        assert torch.get_default_device().type == "meta", "a model was allocated"
        return made(*given)

    made = build.model_of
    monkeypatch.setattr(build, "model_of", on_meta_alone)
    monkeypatch.setattr(limits, "memory_left", lambda: 64 * 2**30)
    data = tmp_path_factory.getbasetemp() / "limits"
    with pytest.raises(SeqrecError, match=said):
        seqrec_cli.run("train", [*DATA, f"data_dir={data}", f"run_dir={data / 'run'}", *settings])
    assert not (data / "run").exists()


def test_of_one_target_a_row_a_batch_has_as_many_rows_as_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a row draws once, not for each of its events."""
    log = packed([list(range(1, 31))] * 2, 30)  # 27 targets a user in training, of rows of 20 events
    words = ["objective=bce", "objective.sampling=uniform", "objective.negatives=100", "objective.shared=position"]
    words += ["objective.window=prefixes", "model.max_length=20", "trainer.batch_size=1000"]
    cfg = validate("train", compose("train", words))
    asked: list[tuple[str, float]] = []
    monkeypatch.setattr(limits, "refuse_too_much", lambda what, needed, *_, **__: asked.append((what, needed)))
    training_setup.refuse_too_large(cfg, log, torch.device("cpu"), model=False)  # type: ignore[arg-type]
    ((what, needed),) = asked
    assert what == "a batch's sampled items"
    assert 2 * 27 <= needed / (100 * limits.BYTES_OF_AN_ITEM) <= 2 * 28


@pytest.mark.parametrize("model", ["sasrec", "bert4rec", "gru4rec", "bst", "dsin", "ensemble"])
@pytest.mark.parametrize("verb", ["train", "plan"])
def test_three_events_a_user_leave_nothing_to_learn_from(
    tmp_path_factory: pytest.TempPathFactory, model: str, verb: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "three"
    folder.mkdir(exist_ok=True)
    rows = [f"{user},{(3 * user + step) % 11},{step}" for user in range(20) for step in range(3)]
    (folder / "log.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    words = [
        "dataset=csv",
        f"dataset.archive={folder / 'log.csv'}",
        "dataset.time_unit=s",
        f"data_dir={folder / 'data'}",
    ]
    with pytest.raises(
        SeqrecError, match=r"no training rows: .* leaves no user more than 1 to train on; .*model=popular"
    ):
        seqrec_cli.run(verb, [*words, f"model={model}", "hardware.device=cpu", f"run_dir={folder / 'run'}"])
    assert not Path(folder / "run").exists()
