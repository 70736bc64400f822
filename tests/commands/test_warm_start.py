"""`train start_from=RUN` on a later file, and `recommend newer=FILE`: what both logs know keeps its vectors."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import seqrec_cli
from seqrec_cli import cli
from seqrec_cli.commands.restore import AS_TRAINED, Restored, restore
from seqrec_cli.commands.resume import resumed, started
from seqrec_cli.commands.warm import _trained_on, matched_logs, on_later_log
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.histories import Histories
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import held_out, train_ends, training_counts, user_training_counts
from seqrec_cli.data.view import SPLITS
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.training.precision import resolve_precision
from seqrec_cli.training.warm_start import counted_axes, start_from

TRAINED = ["avgpool", "bert4rec", "bst", "dien", "din", "dsin", "ensemble", "esasrec", "gru4rec", "hstu", "lrurec"]
TRAINED += ["nextitnet", "sasrec", "semantic", "widedeep"]
COLUMNS = [
    "dataset=csv",
    "dataset.name=shop",
    "dataset.item_attribute_columns=[genre]",
    "dataset.user_attribute_columns=[city]",
    "dataset.context_columns=[device,page]",
    "trainer.max_epochs=1",
    "trainer.batch_size=8",
    "hardware.precision=fp32",
    "hardware.threads=1",
    "evaluation.baselines=false",
]


def rows(users: range, items: list[str], rng: np.random.Generator) -> list[str]:
    genres, devices = "abcd", ["phone", "desk", "tv"]
    found = []
    for user in users:
        for nth, item in enumerate(rng.permutation(items)[:9]):
            genre, device = genres[int(item[1:]) % 4], devices[int(rng.integers(0, 3))]
            page = f"p{int(rng.integers(0, 3))}"
            found.append(f"u{user},{item},{1_600_000_000 + 4000 * nth},{genre},{'xy'[user % 2]},{device},{page}")
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log, and the same a while later: new users and items that sort before and between the known ones."""
    folder, rng = tmp_path_factory.mktemp("logs"), np.random.default_rng(0)
    head = "user,item,time,genre,city,device,page"
    first = rows(range(10, 40), [f"i{n}" for n in range(20, 44)], rng)
    later = [text.replace(",tv,", ",watch,") for text in rows(range(5, 16), [f"i{n}" for n in range(10, 50, 3)], rng)]
    later = [text.replace("1600", "1601") for text in later]
    (folder / "first.csv").write_text("\n".join([head, *first]))
    (folder / "later.csv").write_text("\n".join([head, *first, *later]))
    return folder / "first.csv", folder / "later.csv"


def settings(model: str, archive: Path, data_dir: Path) -> TrainConfig:
    wide = ["model.attributes=add", "model.user_dim=4"] if model in ("sasrec", "gru4rec", "lrurec", "hstu") else []
    wide += ["model.user_id=true", "model.unknown=0.1"] if model in ("din", "bst") else []
    overrides = [f"model={model}", *COLUMNS, *wide, f"dataset.archive={archive}", f"data_dir={data_dir}"]
    cfg = validate("train", compose("train", overrides))
    assert isinstance(cfg, TrainConfig)
    return cfg


def logged(cfg: TrainConfig) -> PackedLog:
    return with_view(prepare(cfg.dataset, Path(cfg.data_dir), print), cfg.protocol, print)


def histories(log: PackedLog, ids: list[str], candidates: list[str]) -> tuple[Histories, torch.Tensor]:
    index = {str(raw): nth for nth, raw in enumerate(vocabulary(log.folder, "items"), 1)}  # type: ignore[arg-type]
    users = {str(raw): nth for nth, raw in enumerate(vocabulary(log.folder, "users"), 1)}  # type: ignore[arg-type]
    items_N = np.array([index[raw] for raw in ids], np.int64)
    contexts = [log.manifest["context_values"][name] for name in ("device", "page")]
    context_RF = np.array([[contexts[0].index("desk") + 1, contexts[1].index("p1") + 1]])
    times_N = 1_600_000_000 + 600 * np.arange(len(ids))
    asked = Histories(
        np.array([users["u12"]]), items_N, np.zeros(1, np.int64), np.array([len(ids)]), times_N, times_N[-1:] + 60,
        context_RF,
    )  # fmt: skip
    return asked, torch.tensor([[index[raw] for raw in candidates]])


def scores(model: Recommender, log: PackedLog) -> torch.Tensor:
    asked, items_BC = histories(log, ["i21", "i30", "i25", "i22"], ["i20", "i31", "i42"])
    with torch.inference_mode():
        return model.eval().score(asked.batch(np.zeros(1, np.int64), 20), items_BC)


@pytest.mark.parametrize("name", TRAINED)
def test_what_both_logs_know_is_scored_as_before(name: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = (settings(name, file, tmp_path) for file in files)
    first, later = logged(before), logged(after)
    earlier, model = build_model(before.model, first.catalog, 1), build_model(before.model, later.catalog, 2)
    for each, log in ((earlier, first), (model, later)):
        for hashed in each.hashed_tables:  # is not carried over
            torch.nn.init.zeros_(each.get_parameter(hashed))
        each.prepare(torch.ones(log.num_items + 1, dtype=torch.int64), torch.ones(log.num_users + 1, dtype=torch.int64))
    assert not torch.allclose(scores(earlier, first), scores(model, later))
    matched = matched_logs(later, first)
    start_from(model, earlier, before.model, catalog=later.catalog, matched=matched)
    torch.testing.assert_close(scores(earlier, first), scores(model, later), rtol=1e-4, atol=1e-5)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_a_new_item_begins_like_those_that_share_its_attributes(files: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = (settings("sasrec", file, tmp_path) for file in files)
    first, later = logged(before), logged(after)
    earlier, model = build_model(before.model, first.catalog, 1), build_model(before.model, later.catalog, 2)
    matched = matched_logs(later, first)
    start_from(model, earlier, before.model, catalog=later.catalog, matched=matched)
    table, of = next((p, name) for name, p in model.named_parameters() if p.shape[0] == later.num_items + 1)
    assert counted_axes(before.model, later.catalog)[of] == {0: [("items", "")]}
    genres = later.catalog.item_values["genre"][:, 0]
    new = int(np.flatnonzero(matched.items_V1[1:] == 0)[0] + 1)
    alike = (genres == genres[new]) & (matched.items_V1 > 0)
    assert alike.sum() > 1
    torch.testing.assert_close(table[new], table[torch.from_numpy(alike)].mean(0))
    assert torch.equal(table[0], torch.zeros_like(table[0]))


@pytest.fixture(scope="module")
def run(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained run of the first file, and its data's folder."""
    folder = tmp_path_factory.mktemp("runs")
    overrides = [*COLUMNS, "model.embed_dim=8", "model.max_length=10", "evaluation.test=none", "trainer.batch_size=4"]
    overrides += [f"dataset.archive={files[0]}", f"data_dir={folder / 'data'}", f"run_dir={folder / 'first'}"]
    seqrec_cli.run("train", [*overrides, "trainer.max_epochs=3"])
    return folder / "first", folder / "data"


def test_a_run_begins_with_another_ones_settings_and_weights(
    run: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [f"start_from={run[0]}", f"dataset.archive={files[1]}", f"run_dir={tmp_path / 'second'}"]
    seqrec_cli.run("train", [*asked, "trainer.lr=1e-12", "trainer.warmup_steps=0", "trainer.max_epochs=1"])
    said = capsys.readouterr().out
    assert "24 items known" in said
    assert "WARNING" not in said
    first, second = opened(run[0]), opened(tmp_path / "second")
    assert second.cfg.model.embed_dim == 8  # type: ignore[attr-defined]
    assert second.cfg.start_from == str(run[0])
    torch.testing.assert_close(scores(first.model, first.log), scores(second.model, second.log), rtol=1e-3, atol=1e-4)


def test_a_run_that_trained_on_what_is_held_out_is_named(
    run: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = files[0].read_text().splitlines()
    shorter = tmp_path / "shorter.csv"  # the earlier run saw events that are held out here
    shorter.write_text("\n".join(line for line in lines if not line.endswith("p0")))
    seqrec_cli.run("train", [f"start_from={run[0]}", f"dataset.archive={shorter}", f"run_dir={tmp_path / 'leaky'}"])
    assert "of the events held out here, so the metrics are too high" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=bst"], "keeps the run's own settings; leave out model=bst"),
        (["model.embed_dim=16"], "leave out model.embed_dim=16"),
        (["trainer.lr=0"], "trainer.lr=0: expected number > 0"),
    ],
)
def test_the_model_stays(run: tuple[Path, Path], overrides: list[str], words: str) -> None:
    with pytest.raises(SeqrecError, match=words):
        seqrec_cli.run("train", [f"start_from={run[0]}", *overrides])


def test_settings_of_the_later_file_may_be_given(
    run: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """They are of the run's dataset, whichever the command line would begin with."""
    given = ["dataset.time_unit=s", "dataset.header=true", "trainer=fast", "trainer.max_steps=1"]
    cli.main(["train", f"start_from={run[0]}", f"dataset.archive={files[1]}", f"run_dir={tmp_path / 'run'}", *given])
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["dataset"]["time_unit"], config["dataset"]["header"], config["auto"]) == ("s", True, {})
    with pytest.raises(SeqrecError, match=r"dataset.headr: no such key"):
        seqrec_cli.run("train", [f"start_from={run[0]}", "dataset.headr=true"])


def test_counts_are_counted_anew(files: tuple[Path, Path], tmp_path: Path) -> None:
    shared = [*COLUMNS[:-5], "evaluation.baselines=false", f"dataset.archive={files[0]}", f"data_dir={tmp_path}"]
    seqrec_cli.run("train", ["model=popular", *shared, f"run_dir={tmp_path / 'popular'}"])
    with pytest.raises(SeqrecError, match="fitted in closed form"):
        seqrec_cli.run("train", [f"start_from={tmp_path / 'popular'}", f"run_dir={tmp_path / 'second'}"])


def test_a_later_files_users_are_recommended_what_the_model_knows(
    run: tuple[Path, Path], files: tuple[Path, Path]
) -> None:
    asked = [f"ckpt={run[0]}", f"newer={files[1]}", "top=100"]
    found = seqrec_cli.run("recommend", [*asked, "user=u7"])  # of the later file alone
    known = set(vocabulary(opened(run[0]).log.folder, "items").tolist())  # type: ignore[arg-type]
    assert set(found["items"]) < known
    assert found["events_read"] == 9
    assert found["answered_by"] == "model"
    unknown = seqrec_cli.run("recommend", [f"ckpt={run[0]}", "user=u7"])
    assert (unknown["answered_by"], unknown["events_read"]) == ("popularity", 0)
    later, new = on_later_log(opened(run[0]), str(files[1]))
    first = opened(run[0])
    assert len(new) == later.log.num_items - first.log.num_items
    torch.testing.assert_close(scores(first.model, first.log), scores(later.model, later.log), rtol=1e-4, atol=1e-5)


def test_a_later_files_users_are_answered_in_a_file(
    run: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = [f"ckpt={run[0]}", f"newer={files[1]}", "top=2"]
    seqrec_cli.run("recommend", [*asked, "input=users", f"output={tmp_path / 'x.jsonl'}"])
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    alone = seqrec_cli.run("recommend", [*asked, "user=u7"])["items"]  # of the later file alone
    assert [row["item"] for row in rows if row["user"] == "u7"] == alone


def test_a_later_files_user_is_explained_by_what_the_model_knows(
    run: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = [f"ckpt={run[0]}", "user=u7", f"out={tmp_path / 'x.png'}"]  # of the later file alone
    newer = f"newer={files[1]}"
    found = seqrec_cli.run("explain", [*asked, newer, "top=2"])
    listed = seqrec_cli.run("recommend", [f"ckpt={run[0]}", "user=u7", newer, "top=2"])
    assert [each["item"] for each in found["items"]] == [str(item) for item in listed["items"]]
    assert found["items"][0]["read"] == listed["events_read"]
    with pytest.raises(SeqrecError, match="user=u7: the data have no such user"):
        seqrec_cli.run("explain", asked)
    later, new = on_later_log(opened(run[0]), str(files[1]))
    item = vocabulary(later.log.folder, "items")[new[0] - 1]  # type: ignore[arg-type]
    with pytest.raises(SeqrecError, match=f"item={item}: training never saw it"):
        seqrec_cli.run("explain", [*asked, newer, f"item={item}"])
    checks = ["check=true", "deletion.users=5", "deletion.removed=1", "deletion.draws=1"]
    tested = seqrec_cli.run("explain", [*asked, newer, *checks])["check"]["validation"]
    assert tested["histories"] + tested["too_short"] == 5  # the run's own, for a later file holds nothing out


def test_a_later_files_counts_are_those_the_model_was_trained_with(files: tuple[Path, Path], tmp_path: Path) -> None:
    """What came later is unknown to it, however often it occurs by now."""
    cfg = settings("din", files[0], tmp_path)
    first = logged(cfg)
    model = build_model(cfg.model, first.catalog, 1)
    later, new = on_later_log(Restored(cfg, model, first, resolve_precision(cfg.hardware), 1, {}), str(files[1]))
    matched = matched_logs(later.log, first)
    counts_V, counts_U = (getattr(later.model, name) for name in ("counts_V", "counts_U"))
    assert counts_V.tolist() == training_counts(first)[matched.items_V1].tolist()
    assert counts_U.tolist() == user_training_counts(first)[matched.users_U1].tolist()
    assert not counts_V[torch.from_numpy(new)].any()
    assert training_counts(later.log)[new].any()


def test_held_out_events_that_a_run_trained_on_are_counted_in_both_splits(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    lines = files[0].read_text().splitlines()
    (tmp_path / "shorter.csv").write_text("\n".join(line for line in lines if not line.endswith("p0")))
    whole, short = (logged(settings("sasrec", file, tmp_path)) for file in (files[0], tmp_path / "shorter.csv"))

    def pairs(log: PackedLog, rows_T: np.ndarray, positions_T: np.ndarray) -> list[tuple[str, str]]:
        users, items = (vocabulary(log.folder, name) for name in ("users", "items"))  # type: ignore[arg-type]
        return [*zip(users[rows_T].tolist(), items[log.items_N[positions_T] - 1].tolist(), strict=True)]

    ends_U, offsets_U1 = train_ends(whole), np.asarray(whole.offsets_U1)
    rows_N = np.repeat(np.arange(whole.num_users), np.diff(offsets_U1))
    positions_N = np.flatnonzero(np.arange(len(rows_N)) < ends_U[rows_N])
    trained = set(pairs(whole, rows_N[positions_N], positions_N))
    leaked = []
    for split in SPLITS:
        targets = held_out(short, split)
        leaked.append(sum(pair in trained for pair in pairs(short, targets.rows_R, targets.positions_T)))
    assert min(leaked) > 0
    assert _trained_on(short, whole, matched_logs(short, whole)) == sum(leaked)


def test_a_run_that_began_with_another_goes_on_without_it(
    run: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its own checkpoint is all it needs; and its manifest tells what it began with."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(run[0], first)
    asked = [f"start_from={first}", f"dataset.archive={files[1]}", f"run_dir={second}", "trainer.max_epochs=1"]
    seqrec_cli.run("train", asked)
    told = RunFolder(second).read_manifest()["started_from"]
    assert (told["run"], told["known_items"], told["gone_items"]) == (str(first), 24, 0)
    shutil.rmtree(first)
    result = seqrec_cli.run("train", [f"resume={second}", "trainer.max_epochs=2"])
    assert result["run_dir"] == str(second)
    assert RunFolder(second).read_manifest()["fit"]["epochs"] == 2
    assert RunFolder(second).read_manifest()["started_from"] == told


def test_a_later_run_may_differ_in_all_but_the_model_and_a_resumed_one_in_less(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    first = tmp_path / "first"
    shutil.copytree(run[0], first)
    config = yaml.safe_load((first / "config.yaml").read_text())
    (first / "config.yaml").write_text(yaml.safe_dump(config | {"resume": str(first)}))
    given = {"protocol.seen": "keep", "objective.smoothing": 0.25, "dataset.duplicates": "drop"}
    words = [f"{key}={value}" for key, value in given.items()]
    record: Any = started(str(first), "train", words)
    assert (record.protocol.seen, record.objective.smoothing, record.dataset.duplicates) == tuple(given.values())
    assert (record.resume, record.run_dir, record.start_from) == (None, None, str(first))
    other: Any = started(str(first), "train", ["protocol=last_k", "trainer.lr=0.5", "hardware.threads=2"])
    assert (other.protocol.name, other.trainer.lr, other.hardware.threads) == ("last_k", 0.5, 2)
    again: Any = resumed(str(first), ["trainer.lr=0.5", "hardware.threads=2", "evaluation.test=once"])
    assert (again.resume, again.run_dir, again.trainer.lr) == (str(first), None, 0.5)
    for word in (*words, "protocol=last_k"):
        with pytest.raises(SeqrecError, match="keeps the run's own settings; leave out"):
            resumed(str(first), [word])


def test_running_statistics_are_carried_over(files: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = (settings("din", file, tmp_path) for file in files)
    first, later = logged(before), logged(after)
    cfg = before.model.model_copy(update={"batch_norm": True})
    earlier, model = build_model(cfg, first.catalog, 1), build_model(cfg, later.catalog, 2)
    learned = {name: buffer for name, buffer in earlier.named_buffers() if name.endswith("running_mean")}
    assert learned
    for buffer in learned.values():
        buffer.normal_()
    start_from(model, earlier, cfg, catalog=later.catalog, matched=matched_logs(later, first))
    assert all(torch.equal(model.get_buffer(name), buffer) for name, buffer in learned.items())


def opened(folder: Path) -> Restored:
    return restore(str(folder), None, None, hardware=AS_TRAINED)
