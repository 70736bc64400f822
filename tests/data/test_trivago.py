"""The log of the RecSys Challenge 2019: histories, requests with their impressions, context."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import archive, build, dataset, lines

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LabelledTraining, labelled_batches
from seqrec_cli.data.splits import held_out, train_ends
from seqrec_cli.data.vocabulary import vocabulary
from tests.toylog import batching

HEADER = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices"
)
IMAGE, DEALS, CLICK = "interaction item image", "interaction item deals", "clickout item"


def row(
    user: str, session: str, time: int, action: str, reference: str, shown: str = "", device: str = "mobile"
) -> str:
    return f'{user},{session},{time},1,{action},{reference},FR,"Nice, France",{device},,{shown},{shown}'


ROWS = (
    row("u", "s", 10, IMAGE, "5"),
    row("u", "s", 11, IMAGE, "5"),  # the same item again
    row("u", "s", 12, "filter selection", "Cheap"),
    row("u", "s", 13, CLICK, "5", "4|5|6", device="tablet"),
    row("u", "s", 14, DEALS, "5"),  # and again
    row("u", "s", 15, "search for item", "7"),
    row("u", "s", 16, CLICK, "6", "6|7"),
    row("u", "t", 30, IMAGE, "6"),  # another session
    row("u", "t", 31, CLICK, "8", "8|9|4"),
    row("u", "t", 32, CLICK, "9", "1|2"),  # not among the shown
    row("u", "t", 33, CLICK, "4", "9|4"),
    row("u", "t", 34, IMAGE, "9"),
    row("v", "w", 5, CLICK, "4", "4|5"),
    row("v", "w", 6, IMAGE, "destination"),
)


def write(folder: Path, rows: tuple[str, ...] = ROWS) -> Path:
    path = folder / "train.csv.gz"
    path.write_bytes(gzip.compress(lines(HEADER, *rows)))
    return path


def trivago(path: Path, folder: Path, **changes: object) -> PackedLog:
    protocol = str(changes.pop("protocol", "impressions"))
    asked = {key: changes.pop(key) for key in list(changes) if key in ("held_out_users", "click_negatives")}
    return build(dataset("trivago", archive=path, **changes), folder, protocol, **asked)


def raw(log: PackedLog, items: np.ndarray) -> list:
    ids = [0, *vocabulary(log.folder, "items").tolist()]
    return np.array(ids)[items].tolist()


def test_histories_collapse_and_requests_keep_their_impressions(tmp_path: Path) -> None:
    log = trivago(write(tmp_path), tmp_path)
    assert raw(log, log.items_N[: log.offsets_U1[1]]) == [5, 5, 7, 6, 6, 8, 9, 4, 9]
    train, val, test = (log.clicks[split] for split in ("train", "val", "test"))
    assert (train.rows_R.tolist(), val.rows_R.tolist(), test.rows_R.tolist()) == ([0, 0, 1], [0], [0])
    assert train.ends_R.tolist() == [1, 3, log.offsets_U1[1]]  # v's request has no history
    assert raw(log, train.items_RC) == [[4, 5, 6], [6, 7, 0], [4, 5, 0]]
    assert train.labels_RC.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert (raw(log, val.items_RC[0, :3]), val.labels_RC[0].tolist()) == ([8, 9, 4], [1, 0, 0])
    assert (raw(log, test.items_RC[0, :2]), test.labels_RC[0, :2].tolist()) == ([9, 4], [0, 1])
    assert val.ends_R.tolist() == held_out(log, "val").ends_R.tolist() == [5]
    assert test.ends_R.tolist() == held_out(log, "test").ends_R.tolist() == [7]
    assert train_ends(log).tolist() == [5, len(log.items_N)]  # nothing from the validation request on
    notes = " ".join(log.manifest["notes"])
    for part in ("1 rows of other actions", "1 item actions without an item", "2 actions with the item of the action"):
        assert part in notes
    assert "1 click-outs whose item was not among the shown ask nothing" in notes


def test_without_collapse_every_action_stays(tmp_path: Path) -> None:
    log = trivago(write(tmp_path), tmp_path, collapse=False, actions=[IMAGE])
    assert raw(log, log.items_N[: log.offsets_U1[1]]) == [5, 5, 5, 6, 6, 8, 9, 4, 9]
    assert "3 rows of other actions than click-outs" in log.manifest["notes"][0]


def test_requests_reach_models_with_labels_and_context(tmp_path: Path) -> None:
    log = trivago(write(tmp_path), tmp_path)
    assert [a.name for a in log.catalog.context_attributes] == ["platform", "city", "device"]
    devices = log.manifest["context_values"]["device"]
    rows = []
    for batch in LabelledTraining(log, 10, batching(2)).epoch(0):
        for b in range(len(batch)):
            length = int(batch.lengths_B[b])
            history, items = batch.items_BL[b, :length].numpy(), batch.candidates_BC[b].numpy()
            device = devices[int(batch.context_BF[b, 2]) - 1]
            rows.append(
                (raw(log, history), raw(log, items[items > 0]), batch.labels_BC[b].tolist()[: len(items)], device)
            )
    assert sorted((h, c, device) for h, c, _, device in rows) == [
        ([], [4, 5], "mobile"),
        ([5], [4, 5, 6], "tablet"),
        ([5, 5, 7], [6, 7], "mobile"),
    ]
    assert all(sum(labels) == 1 for _, _, labels, _ in rows)
    by_tokens = LabelledTraining(log, 10, batching(2, tokens=4)).epoch(0)  # a first request has no history
    assert sum(len(batch) for batch in by_tokens) == len(rows)
    ((_, batch),) = labelled_batches(log, "test", max_length=10, batch_size=4)
    assert batch.request_times_B.tolist() == [33]


def many(users: int) -> tuple[str, ...]:
    rows = []
    for user in range(users):
        rows += [row(f"u{user}", "s", 10 * k, CLICK, str(k), f"{k}|{k + 1}|{k + 2}") for k in range(1, 2 + user % 3)]
    return tuple(rows)


def test_users_may_be_split_with_all_their_requests(tmp_path: Path) -> None:
    log = trivago(write(tmp_path, many(20)), tmp_path, protocol="impressions_by_user", held_out_users=0.2)
    users = {split: set(log.clicks[split].rows_R.tolist()) for split in log.clicks}
    assert {split: len(of) for split, of in users.items()} == {"train": 12, "val": 4, "test": 4}
    assert not users["train"] & (users["val"] | users["test"])
    counts = np.diff(log.offsets_U1)
    for split in ("val", "test"):
        rows, targets = log.clicks[split], held_out(log, split)
        assert len(rows.rows_R) == counts[sorted(users[split])].sum()  # every event is a request here
        assert set(targets.rows_R.tolist()) == users[split]
        assert np.array_equal(targets.ends_R, log.offsets_U1[targets.rows_R + 1] - 1)
    assert log.num_items == 5  # 4 and 5 were shown, never saw
    by_event = trivago(write(tmp_path, many(20)), tmp_path, protocol="leave_last", click_negatives=2)
    assert by_event.num_items == 5  # one catalog, whatever the protocol


def test_user_core_takes_the_requests_of_its_users_along(tmp_path: Path) -> None:
    log = trivago(write(tmp_path, many(20)), tmp_path, user_core=3)
    assert set(np.diff(log.offsets_U1)) == {3}
    assert sum(len(rows.rows_R) for rows in log.clicks.values()) == len(log.items_N)
    clicked = log.clicks["test"].labels_RC.argmax(1)
    assert raw(log, log.clicks["test"].items_RC[np.arange(len(clicked)), clicked]) == [3] * log.num_users


def test_properties_of_the_items_are_read_beside_the_log(tmp_path: Path) -> None:
    metadata = lines("item_id,properties", "5,Pool|Wifi|Pool", "6,Wifi", "99,Spa")
    members = {"x/train.csv": lines(HEADER, *ROWS), "x/test.csv": b"", "x/item_metadata.csv": metadata}
    log = trivago(archive(tmp_path / "trivago.zip", members), tmp_path)
    assert log.manifest["item_attribute_values"]["properties"] == ["Pool", "Wifi"]
    places = {item: k for k, item in enumerate(vocabulary(log.folder, "items").tolist(), 1)}
    assert log.catalog.item_values["properties"][[places[5], places[6], places[4]]].tolist() == [[1, 2], [2, 0], [0, 0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((row("u", "s", 1, CLICK, "5", "a|b"),), "impressions holds no lists of whole numbers"),
        ((row("u", "s", 1, "filter selection", "x"),), "holds no item actions"),
    ],
)
def test_foreign_logs_are_refused(rows: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=message):
        trivago(write(tmp_path, rows), tmp_path)


def test_a_folder_without_the_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "item_metadata.csv").write_text("item_id,properties\n")
    with pytest.raises(SeqrecError, match=r"holds no train\.csv \(has: item_metadata\.csv\)"):
        trivago(tmp_path / "raw", tmp_path)


def test_the_published_log(shared_data: Path, tmp_path: Path) -> None:
    log = trivago(shared_data / "trivago-100k" / "trivago_val_100k.csv.gz", tmp_path, protocol="impressions_by_user")
    assert log.num_users == 6593
    assert sum(len(rows.rows_R) for rows in log.clicks.values()) == 13_596
    assert all((rows.labels_RC.sum(1) == 1).all() for rows in log.clicks.values())
