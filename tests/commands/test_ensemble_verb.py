"""`seqrec ensemble`: runs trained apart become one run, whose scores are the mean of theirs."""

import json
from pathlib import Path

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands.restore import restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.models.contract import SequenceEncoder

TINY = [
    "dataset=synthetic",
    "dataset.users=120",
    "dataset.items=40",
    "dataset.max_events=12",
    "trainer.max_epochs=2",
    "trainer.batch_size=16",
    "evaluation.baselines=false",
    "model.max_length=8",
    "model.embed_dim=8",
    "hardware.device=cpu",
    "hardware.precision=fp32",
]
AS_TRAINED = HardwareConfig(
    device=None, precision=None, threads=None, embedding=None, compile=None, log=None, kernels=None
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ensemble")


def trained(base: Path, folder: str, *words: str) -> str:
    if not (base / folder).exists():
        steps = "model=ease" not in words  # which is fitted in none
        common = [word for word in TINY if steps or word != "trainer.batch_size=16"]
        seqrec_cli.run("train", [*common, *words, f"data_dir={base / 'data'}", f"run_dir={base / folder}"])
    return str(base / folder)


def three(base: Path) -> list[str]:
    return [
        trained(base, "sasrec", "model=sasrec"),
        trained(base, "gru", "model=gru4rec", "model.hidden=8"),
        trained(base, "second", "model=sasrec", "trainer.seed=1"),
    ]


def test_a_mixture_scores_by_the_mean_and_is_a_run_like_any_other(base: Path) -> None:
    runs, folder = three(base), base / "mixed"
    metrics = seqrec_cli.run("ensemble", [f"ckpts=[{','.join(runs)}]", f"run_dir={folder}"])
    mixed = restore(str(folder), None, None, hardware=AS_TRAINED)
    members = [restore(run, None, None, hardware=AS_TRAINED) for run in runs]
    assert list(mixed.model.members) == ["sasrec", "gru4rec", "sasrec_2"]  # type: ignore[arg-type]

    class Mean(SequenceEncoder):
        def score_corpus(self, batch):
            return sum(each.model.eval().score_corpus(batch) for each in members) / len(members)

        def score(self, batch, items_BC):
            return sum(each.model.eval().score(batch, items_BC) for each in members) / len(members)

    log, cfg = mixed.log, mixed.cfg.evaluation
    by_hand = evaluate(Mean(log.catalog), log, "test", cfg=cfg, max_length=8, precision=mixed.precision).metrics
    assert metrics["test"] == pytest.approx(by_hand, rel=1e-5)
    assert metrics["test"] != pytest.approx(json.loads((base / "sasrec" / "metrics.json").read_text())["test"])
    again = seqrec_cli.run("evaluate", [f"ckpt={folder}"])
    assert again["test"] == metrics["test"]
    assert json.loads((folder / "manifest.json").read_text())["mixed"]["sasrec_2"] == runs[2]
    assert (folder / "DONE").is_file()
    exported = seqrec_cli.run("export", [f"ckpt={folder}"])
    assert exported["max_difference"] < 1e-3


EASE = {"name": "ease", "max_length": 8, "embed_dim": 8, "l2": 5.0, "exact_items": 5000, "half_life": 9.0, "scale": 2.0}


def test_a_member_that_counts_is_the_same_counted_alone_or_beside_one_that_is_trained(base: Path) -> None:
    sizes = [f"model.{key}={value}" for key, value in EASE.items() if key not in ("name", "max_length")]
    alone = trained(base, "ease", "model=ease", *sizes)
    few = ["~model.members.sasrec", "~model.members.lrurec", f"+model.members.ease={EASE}".replace("'", "")]
    together = base / "together"
    beside = [word for word in TINY if word != "model.embed_dim=8"]  # each member has its own width
    folders = [f"data_dir={base / 'data'}", f"run_dir={together}"]
    seqrec_cli.run("train", [*beside, "model=ensemble", *few, *folders])
    counted, joint = (
        restore(str(run), None, None, hardware=AS_TRAINED).model.state_dict() for run in (alone, together)
    )
    assert counted["input_VD"].any()
    for name, value in counted.items():
        assert torch.equal(joint[f"members.ease.{name}"], value)
    # Put together from runs apart, the one that only counts first: trainer and objective are those of the other.
    gru, folder = trained(base, "gru", "model=gru4rec", "model.hidden=8"), base / "mixed_counts"
    seqrec_cli.run("ensemble", [f"ckpts=[{alone},{gru}]", f"run_dir={folder}"])
    mixed = restore(str(folder), None, None, hardware=AS_TRAINED)
    assert mixed.cfg.objective.name == "next_item"
    assert list(mixed.model.members) == ["ease", "gru4rec"]  # type: ignore[arg-type]
    assert torch.equal(mixed.model.state_dict()["members.ease.output_VD"], counted["output_VD"])


def test_a_member_reads_as_many_events_as_it_was_trained_on(base: Path) -> None:
    """The longest history is the ensemble's; the member of shorter ones scores as it does alone."""
    folder, short = base / "mixed_lengths", trained(base, "short", "model=sasrec", "model.max_length=6")
    runs = [short, three(base)[0]]
    metrics = seqrec_cli.run("ensemble", [f"ckpts=[{','.join(runs)}]", f"run_dir={folder}"])
    mixed = restore(str(folder), None, None, hardware=AS_TRAINED)
    members = [restore(run, None, None, hardware=AS_TRAINED) for run in runs]
    assert mixed.cfg.model.max_length == 8
    assert [member.max_length for member in mixed.cfg.model.members.values()] == [6, 8]  # type: ignore[attr-defined]
    batch = next(iter(target_batches(mixed.log, held_out(mixed.log, "test"), max_length=8, batch_size=16)))[1]
    assert (batch.lengths_B > 6).any()
    latest = next(iter(target_batches(mixed.log, held_out(mixed.log, "test"), max_length=6, batch_size=16)))[1]
    alone = [each.model.eval().score_corpus(given) for each, given in zip(members, (latest, batch), strict=True)]
    torch.testing.assert_close(mixed.model.eval().score_corpus(batch), sum(alone) / 2)
    assert metrics["protocol"]["max_length"] == 8


def test_what_does_not_mix_is_refused(base: Path) -> None:
    sasrec = trained(base, "sasrec", "model=sasrec")
    with pytest.raises(SeqrecError, match="no causal encoder"):
        seqrec_cli.run("ensemble", [f"ckpts=[{sasrec},{trained(base, 'din', 'model=din')}]"])
    other = trained(base, "other", "model=sasrec", "dataset.users=100")
    with pytest.raises(SeqrecError, match="other was trained on other data"):
        seqrec_cli.run("ensemble", [f"ckpts=[{sasrec},{other}]"])
    with pytest.raises(SeqrecError, match="list of text, at least 2"):
        seqrec_cli.run("ensemble", [f"ckpts=[{sasrec}]"])
    with pytest.raises(SeqrecError, match="no such run folder"):
        seqrec_cli.run("ensemble", [f"ckpts=[{sasrec},{base / 'nothing'}]"])
