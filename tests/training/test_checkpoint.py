"""Atomic writes, reading without running code, and one clear line for anything else."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from training_toys import HEADER

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training.checkpoint import BEST, FORMAT, LAST, SHARDED, load_checkpoint, save_checkpoint


def payload(value: float = 1.0) -> dict[str, Any]:
    model = {"weight": torch.full((3,), value)}
    return {**HEADER, "epoch": 2, "step": 7, "model": model, "metrics": {"mrr": 0.5}, "trainer": None}


def test_round_trip_by_file_and_by_run_folder(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / BEST, payload(4.0))
    for place in (tmp_path, tmp_path / BEST, str(tmp_path / BEST)):
        loaded = load_checkpoint(place)
        assert torch.equal(loaded.pop("model")["weight"], torch.full((3,), 4.0))
        expected = {**payload(), "format": FORMAT}
        del expected["model"]
        assert loaded == expected
    assert os.listdir(tmp_path) == [BEST]


def test_parameters_of_earlier_versions_are_found_by_todays_names(tmp_path: Path) -> None:
    before = ("places.table.weight", "blocks.0.by_distance.table.weight", "of_place", "items.weight")
    model = {name: torch.full((1,), float(nth)) for nth, name in enumerate(before)}
    save_checkpoint(tmp_path / BEST, {**payload(), "model": model})
    today = ["positions.table.weight", "blocks.0.position_bias.table.weight", "position_bias", "items.weight"]
    assert [(name, float(value)) for name, value in load_checkpoint(tmp_path)["model"].items()] == list(
        zip(today, (0.0, 1.0, 2.0, 3.0), strict=True)
    )


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / LAST, payload(1.0))

    def half(_: Any, file: io.BufferedWriter) -> None:
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    said = r"last\.pt: No space left .* free in .*; what was saved before is whole: seqrec train resume="
    with pytest.raises(SeqrecError, match=said):
        save_checkpoint(tmp_path / LAST, payload(2.0))
    assert os.listdir(tmp_path) == [LAST]
    assert load_checkpoint(tmp_path / LAST)["model"]["weight"][0] == 1.0


def test_a_payload_with_other_keys_is_refused_at_writing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys"):
        save_checkpoint(tmp_path / LAST, {**payload(), "epochs": 3})
    assert os.listdir(tmp_path) == []


class Intruder:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, ("intruder",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**payload(), "metrics": Intruder()}, "evil.pt")
    with pytest.raises(SeqrecError, match="not a readable checkpoint"):
        load_checkpoint("evil.pt")
    assert not Path("intruder").exists()


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"a": 1})], ids=["empty", "text", "pickle"])
def test_foreign_files_give_one_line(tmp_path: Path, content: bytes, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(SeqrecError, match=r"x\.pt: not a") as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_torn_missing_and_other_formats(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / LAST, payload())
    with pytest.raises(SeqrecError, match=r"no best\.pt in it; it was not validated yet"):
        load_checkpoint(tmp_path)
    whole = (tmp_path / LAST).read_bytes()
    (tmp_path / BEST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SeqrecError, match=r"torn or foreign\); give ckpt=\S*last\.pt, beside it$"):
        load_checkpoint(tmp_path)
    (tmp_path / LAST).write_bytes(whole[:9])  # both torn: neither is named as the way out of the other
    for name in (BEST, LAST):
        with pytest.raises(SeqrecError, match=r"torn or foreign\); give another ckpt, or train anew$"):
            load_checkpoint(tmp_path / name)
    (tmp_path / "other.pt").write_bytes(whole[:9])
    with pytest.raises(SeqrecError, match=r"torn or foreign\); give another ckpt, or train anew$"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save({"state_dict": {}}, tmp_path / BEST)
    with pytest.raises(SeqrecError, match="not a seqrec checkpoint"):
        load_checkpoint(tmp_path)
    torch.save({**payload(), "format": SHARDED + 1}, tmp_path / BEST)
    with pytest.raises(SeqrecError, match=f"format {SHARDED + 1}"):
        load_checkpoint(tmp_path)
    with pytest.raises(SeqrecError, match="no such run folder"):
        load_checkpoint(tmp_path / "nowhere")
