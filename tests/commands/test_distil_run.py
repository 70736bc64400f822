"""`seqrec train objective=distil`: a run learns from another one, and is served without it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands import teaching, train
from seqrec_cli.commands.plan import main as plan
from seqrec_cli.commands.teaching import taught_before
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import PlanConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import train_ends, view_of
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import silent
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.precision import resolve_precision

TINY = ["dataset=synthetic", "dataset.users=40", "dataset.items=30", "dataset.categories=5", "dataset.max_events=12"]
TINY += ["evaluation.baselines=false", "hardware.device=cpu", "hardware.precision=fp32"]
LEARNS = ["model=sasrec", "model.max_length=8", "model.embed_dim=8", "trainer.max_epochs=2", "trainer.batch_size=16"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distil")
    seqrec_cli.run("train", [*TINY, *LEARNS, f"data_dir={folder / 'data'}", f"run_dir={folder / 'teacher'}"])
    seqrec_cli.run("train", [*TINY, "model=markov", f"data_dir={folder / 'data'}", f"run_dir={folder / 'markov'}"])
    return folder


def of(base: Path, teacher: str, *words: str) -> list[str]:
    return [
        *(*TINY, *LEARNS, "objective=distil", f"objective.teacher={base / teacher}", "objective.top=7"),
        *(f"data_dir={base / 'data'}", *words),
    ]


def record(kind: str, overrides: list[str]) -> Any:
    return validate(kind, compose(kind, overrides))


def test_a_student_learns_from_what_its_teacher_says_and_needs_it_no_more(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, fit = [], train.fit

    def watched(model: Any, objective: Any, given: Any, **named: Any) -> Any:
        rows.append(given)
        return fit(model, objective, given, **named)

    monkeypatch.setattr(train, "fit", watched)
    student, gone = tmp_path / "student", tmp_path / "gone"
    shutil.copytree(base / "teacher", gone)
    words = [word.replace(str(base / "teacher"), str(gone)) for word in of(base, "teacher", "objective.alpha=0.9")]
    found = seqrec_cli.run("train", [*words, f"run_dir={student}"])
    cfg = record("train", words)
    assert isinstance(cfg, TrainConfig)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    soft, ends_U = taught_before(cfg, log), train_ends(log)
    assert soft is not None
    batch = next(rows[0].epoch(0))
    assert batch.soft_items_BLK.shape == (*batch.items_BL.shape, 7)
    for row, length in enumerate(batch.lengths_B.tolist()):
        end = int(ends_U[batch.users_B[row] - 1])
        expected = torch.from_numpy(soft.items_NK[end - length : end].astype("int64"))
        assert torch.equal(batch.soft_items_BLK[row, :length], expected)
        shares_LK = torch.from_numpy(soft.logs_NK[end - length : end].astype("float32")).exp()
        torch.testing.assert_close(batch.soft_shares_BLK[row, :length], shares_LK)
        assert not batch.soft_items_BLK[row, length:].any()

    monkeypatch.setattr(teaching, "ask", lambda *given: pytest.fail("the teacher is asked once"))
    again = seqrec_cli.run("train", [*words, f"run_dir={tmp_path / 'again'}"])
    assert again["val"] == found["val"]
    shutil.rmtree(gone)
    measured = seqrec_cli.run("evaluate", [f"ckpt={student}", "split=val"])
    assert measured["val"] == pytest.approx(found["val"])
    with pytest.raises(SeqrecError, match=r"objective\.teacher: .*gone: no such run folder"):
        seqrec_cli.run("train", [*words, f"run_dir={tmp_path / 'late'}"])


def test_one_target_a_row_has_the_last_event_of_the_teacher(base: Path) -> None:
    cfg = record("train", of(base, "markov", "objective.window=prefixes", "trainer.max_steps=2"))
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    result = train.main(cfg.model_copy(update={"run_dir": str(base / "prefixes")}))
    assert result["val"]["loss"] > 0
    soft = taught_before(cfg, log)
    assert soft is not None
    objective = train.objective_for(cfg, log, torch.device("cpu"))
    batch = next(train.training_rows(cfg, objective, log, device=torch.device("cpu"), soft=soft).epoch(0))
    last_B = batch.targets_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0]
    assert batch.soft_items_BLK.shape == (len(batch), 1, 7)
    for row in range(len(batch)):
        user = int(batch.users_B[row]) - 1
        first, end = int(log.offsets_U1[user]), int(train_ends(log)[user])
        history = batch.items_BL[row, : batch.lengths_B[row]].tolist()
        at = next(  # the place of this row's target
            place
            for place in range(first + 1, end)
            if log.items_N[max(first, place - 8) : place].tolist() == history and log.items_N[place] == last_B[row]
        )
        assert batch.soft_items_BLK[row, 0].tolist() == soft.items_NK[at].tolist()


def test_without_gradients_it_is_the_next_item_alone_and_with_them_never(base: Path) -> None:
    cfg = record("train", of(base, "teacher"))
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    device = torch.device("cpu")
    model, objective = train.fresh_model(cfg, log, device).eval(), train.objective_for(cfg, log, device)
    plain = record("train", [word for word in of(base, "teacher") if not word.startswith("objective")])
    next_item = train.objective_for(plain, log, device)
    batch = next(train.training_rows(plain, next_item, log, device=device).epoch(0))
    with torch.no_grad():
        assert objective.target_loss(model, batch) == next_item.target_loss(model, batch)
    with pytest.raises(RuntimeError, match="without the teacher's soft targets"):
        objective.target_loss(model, batch)


def test_answers_are_kept_apart_by_all_that_they_depend_on(base: Path) -> None:
    cfg = record("train", of(base, "markov"))
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    payload = load_checkpoint(base / "markov")

    def place(payload: dict[str, Any] = payload, seen: str = "remove", **changes: Any) -> Path:
        of_log = replace(log, view=replace(view_of(log), seen=seen))  # type: ignore[type-var]
        return teaching._place(cfg.objective.model_copy(update=changes), of_log, payload)[0]

    model = payload["config"]["model"]
    others = [
        place(temperature=3.0),
        place(temperature=3.0, teacher_scale=2.0),
        place(top=3),
        place(teacher_stride=1),
        place(seen="keep"),
        place({**payload, "model": {name: weight + 1 for name, weight in payload["model"].items()}}),
        place({**payload, "config": {"model": {**model, "max_length": 3}}}),  # by the same weights
    ]
    assert len({place(), *others}) == 1 + len(others)
    assert place(temperature=3.0, soft_targets="ranks") == place()  # whose order no temperature changes
    assert place(alpha=0.9, next_item="leave_out", temperature=4.0, teacher_scale=4.0) == place()


def test_the_teacher_is_asked_as_it_was_trained_at_the_student_s_temperature(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def heard(given: Any, file: Any, tell: Any) -> None:
        asked.append(given)
        raise RuntimeError("heard")

    monkeypatch.setattr(teaching, "ask", heard)
    words = ["objective.temperature=3.0", "objective.teacher_scale=1.5", "objective.teacher_stride=2"]
    cfg = record("train", of(base, "teacher", *words, "model.max_length=5"))
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    with pytest.raises(RuntimeError, match="heard"):
        teaching.be_taught(cfg, log, resolve_precision(cfg.hardware))
    (given,) = asked
    assert (given.cfg.max_length, given.stride, given.temperature) == (8, 2, 2.0)  # 1.5 z / 3 = z / 2
    weights = load_checkpoint(base / "teacher")["model"]
    assert all(torch.equal(value, weights[name]) for name, value in given.model.state_dict().items())


def test_a_plan_asks_no_teacher(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "ask", lambda *given: pytest.fail("a plan takes seconds"))
    monkeypatch.setattr("seqrec_cli.training.step_cost.TIMED_SECONDS", 0.05)
    cfg = record("plan", of(base, "teacher", "objective.top=9"))
    assert isinstance(cfg, PlanConfig)
    assert plan(cfg)["flops"]["step"] > 0


@pytest.mark.parametrize(
    ("teacher", "words", "why"),
    [
        ("teacher", ["dataset.users=41"], "trained on other data, or by another protocol"),
        ("teacher", ["protocol=global_time"], "trained on other data, or by another protocol"),
        ("nothing", [], "nothing: no such run folder"),
        ("teacher", ["model=din"], r"cannot train model=din \(ranker\)"),
        ("teacher", ["model=bert4rec"], "would see the event|never sees what follows"),
        ("teacher", ["hardware.embedding=sparse"], "needs the whole item table"),
        ("teacher", ["hardware.table=sharded", "hardware.processes=2"], "scores of all items in one process"),
        ("teacher", ["objective.rank_decay=3"], "has no effect with objective.soft_targets=scores"),
        ("teacher", ["objective.soft_targets=ranks", "objective.temperature=3"], "has no effect"),
        ("teacher", ["objective.alpha=0"], "expected number > 0"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_a_line(
    base: Path, teacher: str, words: list[str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(SeqrecError, match=why) as refusal:
        seqrec_cli.run("train", of(base, teacher, *words, f"run_dir={tmp_path / 'run'}"))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_missing_teacher_is_told_before_the_data_are_prepared_and_a_torn_one_by_its_own_setting(
    base: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "data"
    with pytest.raises(SeqrecError, match=r"objective\.teacher: .*: no such run folder"):
        seqrec_cli.run("train", of(base, "nothing", f"data_dir={nowhere}"))
    assert not nowhere.exists()
    torn = tmp_path / "torn"
    shutil.copytree(base / "teacher", torn)
    (torn / "best.pt").write_bytes((torn / "best.pt").read_bytes()[:300])
    with pytest.raises(SeqrecError, match=r"torn or foreign\); give objective\.teacher=\S*torn/last\.pt, beside it"):
        seqrec_cli.run("train", of(base, str(torn)))


def test_more_items_than_there_are_is_told(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seqrec_cli.run("train", of(base, "teacher", "objective.top=5000", f"run_dir={tmp_path / 'run'}"))
    assert "objective.top=5000: all of the " in "".join(capsys.readouterr())


def test_a_full_disk_is_told_before_anything_is_asked(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "seqrec_cli.data.soft_targets.shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 1)
    )  # type: ignore[attr-defined]
    with pytest.raises(SeqrecError, match=r"lower objective\.top, or set data_dir"):
        seqrec_cli.run("train", of(base, "teacher", "objective.temperature=1.7", f"run_dir={tmp_path / 'run'}"))
