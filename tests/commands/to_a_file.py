"""What the tests of `seqrec recommend input= output=` share: a run, requests, how answers are asked for and read."""

from pathlib import Path
from typing import Any

import pandas as pd

import seqrec_cli
from tests.commands.test_recommend import TINY

USERS = 60
HISTORIES: list[dict[str, Any]] = [
    {"user": 3},
    {"user": "nobody"},
    {"history": [1, 2, 3, 4, 5, 6, 7]},
    {"user": 5, "history": []},
    {"user": 7, "history": [1, "foo", 2]},
    {"history": [9]},
    {"user": 12},
]


def trained(base: Path, name: str) -> str:
    folder = base / name
    if not folder.exists():
        seqrec_cli.run("train", [*TINY, f"model={name}", f"data_dir={base / 'data'}", f"run_dir={folder}"])
    return str(folder)


def answered(run: str, source: Any, output: Path, *settings: str) -> dict[str, Any]:
    return seqrec_cli.run("recommend", [f"ckpt={run}", f"input={source}", f"output={output}", *settings])


def frame_of(path: Path) -> pd.DataFrame:
    if ".parquet" in path.name:
        return pd.read_parquet(path)
    if ".csv" in path.name:
        return pd.read_csv(path)
    return pd.read_json(path, lines=True, dtype={"user": str})
