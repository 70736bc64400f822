"""`model=auto`: a run like any other, whose manifest says what was tried."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import seqrec_cli
from seqrec_cli.commands import train
from seqrec_cli.commands.portfolio import Portfolio, _mixed, _try_all, _where, train_portfolio
from seqrec_cli.commands.settle import settle
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.evaluation.portfolio import Mixture
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.training import closed_form
from seqrec_cli.training.precision import resolve_precision

SMALL = ["dataset=synthetic", "dataset.users=120", "dataset.items=40", "dataset.max_events=15", "model=auto"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portfolio")
    words = [
        "model.candidates=[popular,markov,itemknn,graph,sasrec]",
        "trainer.max_steps=20",
        f"data_dir={folder / 'data'}",
    ]
    seqrec_cli.run("train", [*SMALL, *words, "evaluation.test=none", f"run_dir={folder / 'run'}"])
    return folder / "run"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_it_is_at_or_above_all_that_it_tried(run: Path) -> None:
    tried, found = read(run / "manifest.json")["portfolio"], read(run / "metrics.json")
    assert list(tried) == ["popular", "markov", "itemknn", "graph", "sasrec"]
    best = max(each["ndcg@10"] for each in tried.values())
    assert found["val"]["ndcg@10"] >= best
    counted = [each["ndcg@10"] for name, each in found["baselines_val"].items() if name != "oracle"]
    assert found["val"]["ndcg@10"] >= max(counted)
    assert tried["graph"]["ndcg@10"] == pytest.approx(found["baselines_val"]["graph"]["ndcg@10"])
    assert sum(each.get("weight", 0) for each in tried.values()) == pytest.approx(1, abs=1e-3)
    assert (run / "members" / "sasrec" / "DONE").is_file()


def test_its_checkpoint_is_measured_again_and_answers(run: Path, tmp_path: Path) -> None:
    again = seqrec_cli.run("evaluate", [f"ckpt={run}", "split=val", f"run_dir={tmp_path / 'again'}"])
    assert again["val"]["ndcg@10"] == pytest.approx(read(run / "metrics.json")["val"]["ndcg@10"], abs=1e-6)
    assert len(seqrec_cli.load(run).recommend(histories=[["1", "2", "3"]], top=5)) == 5


def test_what_a_candidates_own_run_would_advise_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "advice", lambda *asked, **told: ["raise what you never set"])
    words = ["trainer.max_steps=3", "evaluation.test=none", "evaluation.baselines=false", f"data_dir={tmp_path}"]
    for model, advised in (("auto", False), ("sasrec", True)):
        given = [*SMALL[:-1], f"model={model}", *words, f"run_dir={tmp_path / model}"]
        seqrec_cli.run("train", given + ["model.candidates=[popular,sasrec]"] * (model == "auto"))
        assert ("raise what you never set" in capsys.readouterr().out) == advised


def test_what_cannot_fit_and_what_has_no_time_left_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closed_form, "available_memory", lambda device: 1000)
    words = ["model.candidates=[popular,itemknn,sasrec]", "trainer.minutes=0.0001", f"data_dir={tmp_path / 'data'}"]
    words += ["evaluation.test=none", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(SeqrecError, match="none of them could be tried"):
        seqrec_cli.run("train", [*SMALL, *words, "model.candidates=[itemknn,sasrec]"])
    said = capsys.readouterr().out
    assert "auto: sasrec: left out, trainer.minutes=0.0001 are over" in said
    found = seqrec_cli.run("train", [*SMALL, *words, f"run_dir={tmp_path / 'popular'}"])
    said = capsys.readouterr().out
    for name in ("itemknn", "graph"):  # nor do they fail the run that they would stand beside
        assert f"baseline {name} left out: counting needs 0.0 GiB for the pairs of 40 items" in said
        assert name not in found["baselines_val"]
    assert found["val"]["ndcg@10"] == pytest.approx(found["baselines_val"]["popular"]["ndcg@10"])


def test_what_takes_too_long_or_cannot_be_trained_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, log = asked(tmp_path, "model.candidates=[markov,ease,sasrec,gru4rec]", "trainer.minutes=2")
    monkeypatch.setattr("seqrec_cli.commands.portfolio.closed_form_seconds", lambda model, log: 78.0)
    monkeypatch.setattr("seqrec_cli.commands.portfolio.needed_seconds", needs_nothing_or_cannot)

    def train(record: TrainConfig) -> dict[str, Any]:
        raise SeqrecError("the loss became nan at step 3")

    found = train_portfolio(cfg, log, resolve_precision(cfg.hardware), train=train)
    said = capsys.readouterr().out
    assert "auto: ease: left out, fitting it takes about 78.0 s, trainer.minutes=2 leave 1" in said
    tried = read(tmp_path / "run" / "manifest.json")["portfolio"]
    assert tried["sasrec"] == {"left_out": "the loss became nan at step 3"}
    assert tried["gru4rec"] == {"left_out": "no memory for the model"}
    assert tried["markov"]["weight"] == 1
    assert found["val"]["ndcg@10"] == pytest.approx(tried["markov"]["ndcg@10"])
    assert (tmp_path / "run" / "DONE").is_file()


def needs_nothing_or_cannot(record: TrainConfig, *_: Any) -> float:
    if record.model.name == "gru4rec":
        raise SeqrecError("no memory for the model")
    return 1.0


@pytest.mark.parametrize(
    ("words", "lower"),
    [
        ([], "lower model.exact_items below 40"),
        (["model.exact_items=10", "model.embed_dim=20"], r"lower model.embed_dim \(now 20\)"),
    ],
)
def test_what_cannot_be_counted_is_refused_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], lower: str
) -> None:
    monkeypatch.setattr(closed_form, "available_memory", lambda device: 1000)
    words = [*SMALL[:-1], "model=ease", *words, f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(SeqrecError, match=f"counting needs .*, {lower}, or take model=itemknn"):
        seqrec_cli.run("train", words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("trainer.seeds=2", "trainer.seeds"),
        ("trainer.monitor=loss", "trainer.monitor=loss"),
        ("model.candidates=[din]", "din is no causal encoder"),
        ("model.candidates=[auto]", "auto is no model to try"),
        ("trainer.lr=0.1", "trainer.lr"),
    ],
)
def test_what_it_cannot_do_is_refused(word: str, line: str) -> None:
    with pytest.raises(SeqrecError, match=line.replace("[", r"\[")):
        seqrec_cli.run("train", [*SMALL, word])


def asked(tmp_path: Path, *words: str) -> tuple[TrainConfig, PackedLog]:
    """A portfolio's configuration and log, before anything is tried."""
    overrides = [*SMALL, *words, f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"]
    cfg = validate("train", compose("train", overrides))
    assert isinstance(cfg, TrainConfig)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), str), cfg.protocol, str)
    return settle(cfg, log, tell=str), log


def test_an_encoder_is_asked_what_the_portfolio_is_and_its_test_stays_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqrec_cli.commands.portfolio.needed_seconds", lambda record, log, precision: 600.0)
    cfg, log = asked(
        tmp_path,
        "protocol=last_k",
        "protocol.k=2",
        "model.candidates=[gru4rec,sasrec]",
        "hardware.precision=bf16",
        "trainer.seed=7",
        "trainer.monitor=mrr",
        "trainer.max_steps=20",
        "trainer.minutes=10",
        "evaluation.cutoffs=[7]",
        "evaluation.ranked_users=30",
        "evaluation.test=once",
    )
    trained: list[TrainConfig] = []

    def train(record: TrainConfig) -> dict[str, Any]:
        trained.append(record)
        return {"interrupted": True}

    found = train_portfolio(cfg, log, resolve_precision(cfg.hardware), train=train)
    assert found["interrupted"]
    (record,) = trained
    assert record.model.name == "gru4rec"
    assert record.evaluation.test == "none"
    assert not record.evaluation.baselines
    assert (record.evaluation.cutoffs, record.evaluation.ranked_users) == (cfg.evaluation.cutoffs, 30)
    assert (record.dataset, record.protocol, record.hardware) == (cfg.dataset, cfg.protocol, cfg.hardware)
    assert (record.trainer.seed, record.trainer.monitor, record.trainer.max_steps) == (7, "mrr", 20)
    assert record.trainer.minutes is not None
    assert 4 < record.trainer.minutes < 4.75  # half of what is left of ten: two encoders are to be trained
    assert (record.run_dir, record.resume) == (str(tmp_path / "run" / "members" / "gru4rec"), None)


def test_time_for_test_is_kept_back_where_the_run_reads_it(tmp_path: Path) -> None:
    cfg, log = asked(tmp_path, "trainer.minutes=1")
    for test, opened in (("none", False), ("once", True), ("all", True)):
        of_test = cfg.model_copy(update={"evaluation": cfg.evaluation.model_copy(update={"test": test})})
        portfolio = Portfolio(of_test, log, resolve_precision(cfg.hardware), RunFolder(tmp_path / "run"))
        assert (portfolio.minutes.given, portfolio.minutes.opened) == (1, opened)


class Unread:
    """A test set that may not be looked at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of test was read")


def test_models_and_weights_are_chosen_without_a_look_at_test(tmp_path: Path) -> None:
    cfg, log = asked(tmp_path, "model.candidates=[popular,markov,itemknn]")
    assert log.view is not None
    clicks = {split: rows for split, rows in log.view.clicks.items() if split != "test"}
    log = replace(log, view=replace(log.view, test=Unread(), clicks=clicks))  # type: ignore[arg-type]
    portfolio = Portfolio(cfg, log, resolve_precision(cfg.hardware), RunFolder(tmp_path / "run"))
    assert _try_all(portfolio, lambda record: {})
    mixed, model = _mixed(portfolio)
    assert sum(model.weights.values()) == pytest.approx(1, abs=1e-3)
    found = portfolio.measure(mixed.model, model)
    assert found["ndcg@10"] >= max(each["ndcg@10"] for each in portfolio.tried.values())


def test_an_interrupted_portfolio_goes_on_with_what_it_has(tmp_path: Path) -> None:
    """A member that is done is not trained again, one that was begun goes on, and one without weights begins anew."""
    members = tmp_path / "members"
    assert _where(members / "new") == {"resume": None, "run_dir": str(members / "new")}
    for name in ("begun", "empty"):
        (members / name).mkdir(parents=True)
    (members / "begun" / "last.pt").write_bytes(b"")
    assert _where(members / "begun") == {"resume": str(members / "begun"), "run_dir": None}
    assert _where(members / "empty") == {"resume": None, "run_dir": str(members / "empty")}
    assert not (members / "empty").exists()


def test_a_member_that_is_done_is_not_trained_again(run: Path) -> None:
    with mock.patch("seqrec_cli.commands.train.fit", side_effect=AssertionError("trained again")):
        again = seqrec_cli.run("train", [f"resume={run}"])
    assert again["val"] == pytest.approx(read(run / "metrics.json")["val"])


@pytest.mark.parametrize("shares", [(1.0,), (0.99, 0.01)])
@pytest.mark.parametrize("monitor", ["ndcg@10", "mrr"])
def test_a_mixture_below_the_best_alone_is_not_kept(
    tmp_path_factory: pytest.TempPathFactory, shares: tuple[float, ...], monitor: str
) -> None:
    """Pools are few requests' best items by NDCG@10; all of validation, by the monitored metric, has the last word."""
    folder = tmp_path_factory.getbasetemp()
    cfg, log = asked(folder, "model.candidates=[popular,markov]", f"trainer.monitor={monitor}")
    portfolio = Portfolio(cfg, log, resolve_precision(cfg.hardware), RunFolder(folder))
    assert _try_all(portfolio, lambda record: {})
    best = max(portfolio.tried, key=lambda name: portfolio.tried[name][monitor])
    worst_first = sorted(portfolio.tried, key=lambda name: name == best)
    worse = Mixture(dict(zip(worst_first, shares, strict=False)), ndcg=0.0, best_alone=0.0)
    with mock.patch("seqrec_cli.commands.portfolio.find_mixture", return_value=worse):
        _, model = _mixed(portfolio)
    assert model.weights == {best: 1.0}
