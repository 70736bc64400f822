"""Commands on runs and files that are not what they should be: one line that names the remedy of that verb."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.commands.warm import on_later_log
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.parts import find

START = 1_700_000_000
TINY = ["model.embed_dim=8", "model.blocks=1", "trainer.max_epochs=2", "evaluation.baselines=false"]


def write(path: Path, rows: list[str], header: str = "user,item,time") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows(time: str = "{}") -> list[str]:
    return [f"u{u},i{(3 * u + 5 * k) % 23},{time.format(START + k)}" for u in range(30) for k in range(6)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("refusals")
    log = write(folder / "log.csv", rows())
    told = ["dataset=csv", f"dataset.archive={log}", f"data_dir={folder / 'data'}", f"run_dir={folder / 'run'}"]
    seqrec_cli.run("train", [*told, *TINY])
    return folder / "run"


@pytest.mark.parametrize(
    ("lines", "header", "says"),
    [
        (rows(), "visitor,item,time", "later.csv has no column 'user'"),
        (["u1,i1,soon", *rows()], "user,item,time", "time is 'soon' in line 2, not a"),
        (
            ["u1,i1,", rows()[0], "u1,NaT,5", *rows()],
            "user,item,time",
            r"2 without one of user, item, time .*, the first are line 2, line 4; remove these rows or mend them",
        ),
    ],
)
def test_a_newer_file_is_read_by_the_run_s_settings(
    run: Path, tmp_path: Path, lines: list[str], header: str, says: str
) -> None:
    later = write(tmp_path / "later.csv", lines, header)
    for verb, key, told in (("recommend", "newer", ["user=u1"]), ("evaluate", "archive", [])):
        with pytest.raises(SeqrecError, match=f"{key}=.*{says}.*; it is read by the run's own settings") as error:
            seqrec_cli.run(verb, [f"ckpt={run}", f"{key}={later}", *told])
        assert "dataset." not in str(error.value)


def test_a_newer_file_that_is_not_there(run: Path) -> None:
    with pytest.raises(SeqrecError, match=r"^newer=nowhere\.csv: there is no such file$"):
        seqrec_cli.run("recommend", [f"ckpt={run}", "newer=nowhere.csv", "user=u1"])


def test_a_newer_file_need_not_be_one_that_can_be_evaluated(run: Path, tmp_path: Path) -> None:
    """Histories of one event; and users who have seen every item of the file, who leave no negatives."""
    short = write(tmp_path / "short.csv", [f"n{nth},i{nth},{START + nth}" for nth in range(8)])
    found = seqrec_cli.run("recommend", [f"ckpt={run}", f"newer={short}", "user=n3"])
    assert found["events_read"] == 1
    assert found["known_user"]
    assert set(found["items"]) == {f"i{nth}" for nth in range(8) if nth != 3}
    few = write(tmp_path / "few.csv", [f"n{user},i{item},{START + item}" for user in range(3) for item in range(4)])
    found = seqrec_cli.run("recommend", [f"ckpt={run}", f"newer={few}", "user=n1", "repeats=true"])
    assert set(found["items"]) == {"i0", "i1", "i2", "i3"}


@pytest.mark.parametrize("duplicates", ["error", "drop", "keep"])
def test_repeats_in_a_newer_file_are_counted_and_left_out_or_kept(
    run: Path, tmp_path: Path, duplicates: str, capsys: pytest.CaptureFixture[str]
) -> None:
    restored = restore(str(run), None, None, hardware=AS_TRAINED)
    dataset = restored.cfg.dataset.model_copy(update={"duplicates": duplicates})
    restored = replace(restored, cfg=restored.cfg.model_copy(update={"dataset": dataset}))
    later = write(tmp_path / "later.csv", [rows()[0], *rows(), rows()[0]])
    for _ in range(2):  # at the second time the log is packed
        log = on_later_log(restored, str(later))[0].log
        said = " ".join(capsys.readouterr().out.split())
        assert len(log.items_N) == (182 if duplicates == "keep" else 180)
        done = "kept" if duplicates == "keep" else "left out"
        assert f"2 rows that repeat an earlier one (same user, item and time) are {done}" in said


def test_a_newer_file_gives_what_the_run_s_own_does(run: Path) -> None:
    own = seqrec_cli.run("recommend", [f"ckpt={run}", "user=u1"])
    newer = seqrec_cli.run("recommend", [f"ckpt={run}", f"newer={run.parent / 'log.csv'}", "user=u1"])
    assert newer["items"] == own["items"]
    assert newer["scores"] == pytest.approx(own["scores"], rel=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="has no pipes in folders")
def test_links_to_nothing_and_pipes_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("nothing.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, says in (
        ("link", r"is a link to nothing\.csv, and there is no such file"),
        ("pipe", "is a pipe or a device"),
    ):
        with pytest.raises(SeqrecError, match=says):
            find(tmp_path / f"{name}.csv")


def test_without_a_whole_checkpoint_no_other_is_named_at_resume(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "DONE").unlink()
    for name in ("best.pt", "last.pt"):
        (folder / name).write_bytes(b"torn")
    with pytest.raises(SeqrecError, match=r"last\.pt and best\.pt are damaged or gone; train anew in another run_dir$"):
        seqrec_cli.run("train", [f"resume={folder}"])
    for name in ("best.pt", "last.pt"):
        (folder / name).unlink()
    with pytest.raises(SeqrecError, match="the run has no checkpoint yet; delete the folder, or start anew"):
        seqrec_cli.run("train", [f"resume={folder}"])


def test_damaged_checkpoints_at_resume_are_told_at_once_with_what_is_left(run: Path, tmp_path: Path) -> None:
    for name, says in (
        ("best.pt", r"best\.pt is damaged or gone, .*: seqrec evaluate ckpt=\S*last\.pt measures them, or train anew"),
        ("last.pt", r"last\.pt is damaged, .*; seqrec train start_from=\S* begins a new run with its best weights"),
    ):
        folder = tmp_path / name
        shutil.copytree(run, folder)
        (folder / "DONE").unlink()
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
        with pytest.raises(SeqrecError, match=says):
            seqrec_cli.run("train", [f"resume={folder}"])


def test_a_file_in_place_of_a_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = ["dataset=csv", f"dataset.archive={run.parent / 'log.csv'}"]
    with pytest.raises(SeqrecError, match=r"data_dir=.*file is a file; name a folder"):
        seqrec_cli.run("preprocess", [*told, f"data_dir={tmp_path / 'file'}"])
    data = f"data_dir={run.parent / 'data'}"
    with pytest.raises(SeqrecError, match=r"run_dir=.*file is a file; name a folder"):
        seqrec_cli.run("train", [*told, "model=popular", data, f"run_dir={tmp_path / 'file'}"])


@pytest.mark.parametrize(
    ("lines", "told", "says"),
    [
        ([f"u{n % 9},one,{START + n}" for n in range(40)], [],
         r"the log holds 1 item in all its rows.*is dataset\.item_column=item the column of items\?"),
        (rows()[:2], [], r"no user has 3 events or more, so nobody"),
    ],
)  # fmt: skip
def test_what_no_filter_did_is_not_laid_to_filters(
    tmp_path: Path, lines: list[str], told: list[str], says: str
) -> None:
    log = write(tmp_path / "log.csv", lines)
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("preprocess", ["dataset=csv", f"dataset.archive={log}", f"data_dir={tmp_path}", *told])


def test_filters_that_leave_one_item_are_named(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [*rows(), *(f"u{u},hit,{START + 90 + n}" for u in range(30) for n in range(2))])
    told = ["dataset=csv", f"dataset.archive={log}", f"data_dir={tmp_path}", "dataset.item_core=20"]
    with pytest.raises(SeqrecError, match=r"only 1 of 24 items is left after dataset\.item_core=20; ranking needs"):
        seqrec_cli.run("preprocess", told)


def test_a_column_that_is_there_twice_is_named_by_position(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [f"{line},x" for line in rows()], "user,item,time,item")
    with pytest.raises(SeqrecError, match=r"more than one column 'item'.*its position.*: dataset\.item_column=1$"):
        seqrec_cli.run("preprocess", ["dataset=csv", f"dataset.archive={log}", f"data_dir={tmp_path}"])


@pytest.mark.parametrize(
    "text", ['{"user": [1, 2], "item": [3, 4], "time": [5, 6]}', '{"user": {"id": 1}, "item": 3, "time": 5}']
)
def test_users_that_are_lists_or_objects_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.json").write_text(text)
    with pytest.raises(SeqrecError, match=r"log\.json: .*user"):
        seqrec_cli.run(
            "preprocess", ["dataset=csv", f"dataset.archive={tmp_path / 'log.json'}", f"data_dir={tmp_path}"]
        )


def test_an_address_is_no_archive(run: Path, tmp_path: Path) -> None:
    address = "https://example.com/x.csv"
    told = ["dataset=csv", f"data_dir={tmp_path}"]
    says = (
        rf"^dataset\.archive={address} is an address, .*; download it first .*; or set dataset\.url={address} instead"
    )
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("preprocess", [*told, f"dataset.archive={address}"])
    with pytest.raises(SeqrecError, match=rf"^newer={address} is an address, .*; download it first and give its path$"):
        seqrec_cli.run("recommend", [f"ckpt={run}", f"newer={address}", "user=u1"])
    log = write(tmp_path / "log.csv", rows())
    with pytest.raises(SeqrecError, match=rf"^dataset\.item_file={address} is an address, .* give its path$"):
        seqrec_cli.run(
            "preprocess", [*told, f"dataset.archive={log}", f"dataset.item_file={address}", "dataset.title_column=t"]
        )


@pytest.mark.parametrize(("user", "item"), [("user", "user"), ("user", "0"), ("1", "item"), ("1", "1")])
def test_users_and_items_are_not_one_column(tmp_path: Path, user: str, item: str) -> None:
    log = write(tmp_path / "log.csv", rows())
    told = [f"dataset.archive={log}", f"data_dir={tmp_path}", f"dataset.user_column={user}"]
    says = rf"dataset\.user_column={user} and dataset\.item_column={item} name the same column"
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("preprocess", ["dataset=csv", *told, f"dataset.item_column={item}"])
