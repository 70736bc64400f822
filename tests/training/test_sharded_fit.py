"""Training with tables that are spread over ranks: the losses, weights and metrics of one process, and runs that go on
with another number of them."""

import io
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint import metadata

if __name__ != "test_sharded_fit":  # a rank, whose pytest is another process
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from test_micro_batches import small

from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.processes import ALONE, current, together
from seqrec_cli.training import loop, sharded_checkpoint
from seqrec_cli.training.checkpoint import BEST, LAST, load_checkpoint
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.precision import Precision
from tests.ranks import run_ranks
from tests.toylog import packed, random_histories

MODULE = "tests.training.test_sharded_fit"
CPU = Precision(torch.device("cpu"), "fp32")
LOG_OF_RUNS = packed(random_histories(40, 30, 20), 30, click_negatives=2)
SHARDED = ["hardware.table=sharded"]
CASES = {
    "clipped": ["model=sasrec", "trainer.clip_norm=0.05", "trainer.ema=0.9", "trainer.batch_size=13"],
    "sparse": [
        *("model=gru4rec", "objective=sampled_softmax", "objective.negatives=6", "objective.shared=batch"),
        *("hardware.embedding=sparse", "trainer.swa_epochs=2", "trainer.clip_norm=0.05"),
        "trainer.batch_size=37",  # of 38 rows: the second batch has fewer than there are ranks
    ],
}


class Losses(Listener):
    def __init__(self) -> None:
        self.of_steps: list[float] = []

    def on_step(self, step: int, loss: float | None, *, lr: float, targets: int) -> None:
        assert loss is not None
        self.of_steps.append(loss)


class Run(NamedTuple):
    losses: list[float]
    metrics: dict[str, float]
    table_numbers: int  # of the item table, in this process
    moment_numbers: int  # of the optimizer's averages for it


def configured(case: str, epochs: int) -> TrainConfig:
    words = ["trainer.micro_batch_tokens=null", f"trainer.max_epochs={epochs}", "trainer.evaluate_every=1"]
    return small([*CASES[case], *words, "trainer.monitor=ndcg@10", "trainer.schedule=constant", *SHARDED])


def run(case: str, folder: Path, *, epochs: int, resume: bool = False) -> Run:
    """A whole fit, in as many processes as there are."""
    folder.mkdir(exist_ok=True)
    cfg = configured(case, epochs)
    model, objective = fresh_model(cfg, LOG_OF_RUNS, CPU.device), objective_for(cfg, LOG_OF_RUNS, CPU.device)
    rows = training_rows(cfg, objective, LOG_OF_RUNS, device=CPU.device)
    moments = 0

    def validate() -> dict[str, float]:
        with together(ALONE):
            found = evaluate(model, LOG_OF_RUNS, "val", cfg=cfg.evaluation, max_length=12, precision=CPU)
        return found.metrics

    listener, made = Losses(), []
    kind = loop.Loop
    header = {"config": dump(cfg), "facts": LOG_OF_RUNS.catalog.facts(), "fingerprint": "toy"}
    with (
        mock.patch.object(loop, "LOG_EVERY", 1),
        mock.patch.object(loop, "Loop", lambda *a, **k: made.append(kind(*a, **k)) or made[0]),
    ):
        fitted = loop.fit(
            model,
            objective,
            rows,
            cfg=cfg.trainer,
            precision=CPU,
            validate=validate,
            header=header,
            folder=folder,
            listener=listener,
            resume_from=load_checkpoint(folder / LAST, whole=not current().several) if resume else None,
        )
    table = model.items.weight
    moments = sum(value.numel() for value in made[0].optimizer.state[table].values() if value.ndim > 1)
    return Run(listener.of_steps, fitted.best_metrics, table.numel(), moments)


def begun(folder: Path) -> dict[str, Run]:
    return {case: run(case, folder / f"{case}-{current().count}", epochs=2) for case in CASES}


def whole(folder: Path) -> dict[str, Run]:
    return {case: run(case, folder / f"{case}-whole-{current().count}", epochs=3) for case in CASES}


def gone_on(folder: Path) -> dict[str, Run]:
    """What two ranks, or one, began: by as many as there are now."""
    found = {}
    for begun_by in (1, 2):
        if begun_by != current().count:
            for case in CASES:
                found[case, begun_by] = run(
                    case, folder / f"{case}-{begun_by}-on-{current().count}", epochs=3, resume=True
                )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fits")


@pytest.fixture(scope="module")
def by_one(folder: Path) -> dict[str, Run]:
    return whole(folder)


@pytest.fixture(scope="module")
def by_two(folder: Path, python: list[str]) -> list[tuple[dict[str, Run], dict[str, Run], dict[Any, Run]]]:
    begun(folder)
    for case in CASES:
        shutil.copytree(folder / f"{case}-1", folder / f"{case}-1-on-2")
    return run_ranks(python, f"{MODULE}:with_two", 2, folder)


def with_two(folder: Path) -> tuple[dict[str, Run], dict[str, Run], dict[Any, Run]]:
    return whole(folder), begun(folder), gone_on(folder)


@pytest.fixture(scope="module")
def by_three(folder: Path, python: list[str], by_two: Any) -> list[dict[Any, Run]]:
    for case in CASES:
        for begun_by in (1, 2):
            shutil.copytree(folder / f"{case}-{begun_by}", folder / f"{case}-{begun_by}-on-3")
    return run_ranks(python, f"{MODULE}:gone_on", 3, folder)


def weights_of(folder: Path, file: str = LAST) -> dict[str, Tensor]:
    """As any other verb reads them."""
    payload = load_checkpoint(folder / file)
    moments = payload["trainer"]["optimizer"]["state"] if payload["trainer"] else {}
    return payload["model"] | {f"{nth}.{key}": value for nth, of in moments.items() for key, value in of.items()}


def same_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()  # and biases of keys, whose gradients are rounding, move a little apart
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one_process(case: str, folder: Path, by_one: dict[str, Run], by_two: Any) -> None:
    one = by_one[case]
    for together_run, _, _ in by_two:
        two = together_run[case]
        assert two.losses == pytest.approx(one.losses, rel=1e-5)
        assert two.metrics == pytest.approx(one.metrics, rel=1e-5)
    for file in (LAST, BEST):
        same_weights(weights_of(folder / f"{case}-whole-2", file), weights_of(folder / f"{case}-whole-1", file))


@pytest.mark.parametrize("case", CASES)
def test_a_rank_holds_its_rows_alone_and_their_averages(case: str, by_one: dict[str, Run], by_two: Any) -> None:
    one, two = by_one[case], [run[0][case] for run in by_two]
    assert [run.table_numbers for run in two] == [16 * 8, 15 * 8]
    assert sum(run.table_numbers for run in two) == one.table_numbers
    assert [run.moment_numbers for run in two] == [2 * 16 * 8, 2 * 15 * 8]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("begun_by", "then"), [(2, 1), (1, 2), (2, 3), (1, 3)])
def test_a_run_goes_on_with_another_number_of_processes(
    case: str, begun_by: int, then: int, folder: Path, by_one: dict[str, Run], request: pytest.FixtureRequest
) -> None:
    if then == 1:
        request.getfixturevalue("by_two")
        shutil.copytree(folder / f"{case}-2", folder / f"{case}-2-on-1")
        found = [run(case, folder / f"{case}-2-on-1", epochs=3, resume=True)]
    elif then == 2:
        found = [each[2][case, begun_by] for each in request.getfixturevalue("by_two")]
    else:
        found = [each[case, begun_by] for each in request.getfixturevalue("by_three")]
    one = by_one[case]
    for each in found:
        assert each.losses == pytest.approx(one.losses[-len(each.losses) :], rel=1e-5)
        assert 0 < len(each.losses) < len(one.losses)
        assert each.metrics == pytest.approx(one.metrics, rel=1e-5)
    same_weights(weights_of(folder / f"{case}-{begun_by}-on-{then}"), weights_of(folder / f"{case}-whole-1"))


def test_shards_that_are_gone_are_told_in_one_line(folder: Path, by_two: Any, tmp_path: Path) -> None:
    shutil.copytree(folder / "clipped-2", tmp_path / "run")
    assert len(list((tmp_path / "run" / "shards").glob("last-*"))) == 1  # the others are removed
    shutil.rmtree(tmp_path / "run" / "shards")
    with pytest.raises(SeqrecError, match=r"last.pt: its rows are in .*shards/last-.*, which is damaged or gone"):
        load_checkpoint(tmp_path / "run" / LAST)


def test_no_code_comes_out_of_a_table_of_contents(folder: Path, by_two: Any, tmp_path: Path) -> None:
    shutil.copytree(folder / "clipped-2", tmp_path / "run")
    (contents,) = (tmp_path / "run" / "shards").glob("last-*/.metadata")

    class Evil:
        def __reduce__(self) -> Any:
            return Path(tmp_path / "written").touch, ()

    contents.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SeqrecError, match="damaged or gone"):
        load_checkpoint(tmp_path / "run" / LAST)
    assert not (tmp_path / "written").exists()


class _Got:
    """Pickled as `getattr(of, name)`, the way in which Python 3.11.0 to 3.11.3 write a member of an enumeration."""

    def __init__(self, of: Any, name: str) -> None:
        self.of, self.name = of, name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.of, self.name)


def test_a_member_of_an_enumeration_is_read_and_no_other_attribute() -> None:
    encoding = metadata._MEM_FORMAT_ENCODING
    read = sharded_checkpoint._Unpickler(io.BytesIO(pickle.dumps(_Got(encoding, "TORCH_CONTIGUOUS_FORMAT")))).load()
    assert read is encoding.TORCH_CONTIGUOUS_FORMAT
    with pytest.raises(pickle.UnpicklingError, match="no part of a table of contents"):
        sharded_checkpoint._Unpickler(io.BytesIO(pickle.dumps(_Got(metadata.Metadata, "__init__")))).load()
