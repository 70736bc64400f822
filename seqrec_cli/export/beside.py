"""What lies beside a program: ids, titles and attributes of its indices, how the data were prepared, and what
a card says of the program."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of

VOCABULARIES = ("items.parquet", "users.parquet")  # index, id and, of items that have one, title
PREPROCESSING = "preprocessing.json"


def vocabulary_folder(log: PackedLog) -> Path:
    """Where the log's vocabularies are. Raises SeqrecError where they are missing."""
    if log.folder is None or not all((log.folder / name).exists() for name in VOCABULARIES):
        raise SeqrecError("the dataset's folder lacks its id vocabularies; run preprocess again")
    return log.folder


def write_beside(log: PackedLog, folder: Path) -> None:
    """Vocabularies, attributes and preprocessing settings."""
    source = vocabulary_folder(log)
    for name in VOCABULARIES:
        shutil.copyfile(source / name, folder / name)
    catalog, manifest = log.catalog, log.manifest
    _attributes(
        folder / "item_attributes.parquet",
        catalog.item_values,
        catalog.item_numbers,
        texts=manifest.get("item_attribute_values", {}),
    )
    _attributes(
        folder / "user_attributes.parquet",
        catalog.user_values,
        catalog.user_numbers,
        texts=manifest.get("user_attribute_values", {}),
    )
    told = {"data": manifest, "protocol": view_of(log).manifest}
    (folder / PREPROCESSING).write_text(json.dumps(told, indent=2, default=str) + "\n", encoding="utf-8")


def _attributes(
    path: Path, values: dict[str, np.ndarray], numbers: dict[str, np.ndarray], *, texts: dict[str, list[str]]
) -> None:
    """A row an index from 1; an attribute's values are a list of texts, or of codes where texts are not kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {}
    for name, codes_V1W in values.items():
        told = texts.get(name)
        rows = [[code if told is None else told[code - 1] for code in row if code] for row in codes_V1W[1:].tolist()]
        columns[name] = pa.array(rows)
    for name, number_V1 in numbers.items():
        columns[name] = pa.array(number_V1[1:], from_pandas=True)
    if columns:
        index = pa.array(np.arange(1, 1 + len(next(iter(columns.values()))), dtype=np.int32))
        pq.write_table(pa.table({"index": index, **columns}), path)


def loading_lines(facts: dict[str, Any], loading: Sequence[str]) -> list[str]:
    """Python that loads the program and asks it."""
    package = loading[0].split("=")[1].split(".")[0].strip()
    faiss = ", faiss" if facts["format"] == "embeddings" and facts["index"] else ""
    return [f"import {package}{faiss}", *loading]


def words_of_loading(facts: dict[str, Any]) -> list[str]:
    """What a caller has to know beside the code."""
    lines = [
        "`signature.json` has the inputs' names, types and shapes. Items and users are indices from 1; 0 is padding, "
        "on the right, and the unknown user. What an index stands for is in `items.parquet` and `users.parquet` (and "
        "`item_attributes.parquet`, `user_attributes.parquet` where there are attributes), how the data were filtered "
        "and split in `preprocessing.json`."
    ]
    if facts["format"] == "aoti":
        lines += ["", "The package is machine code: to load it is to run it. Load only what you trust."]
    return lines


def words_of_format(facts: dict[str, Any]) -> list[str]:
    """What the folder holds."""
    kept = f", weights stored in {facts['quantize']}" if facts["quantize"] else ""
    return [
        f"This is an export by seqrec {facts['versions']['seqrec']} (format {facts['format']}{kept}). It reads at most "
        f"{facts['max_length']} of a user's latest events; a history may be empty."
    ]


def proof_lines(proof: dict[str, Any]) -> list[str]:
    """How the program compares with the checkpoint."""
    lines = [
        f"- largest difference of scores {proof['max_difference']:.2g}; of the top 10, {proof['top10']:.1%} are the "
        "checkpoint's",
    ]
    if "metric_now" in proof:
        lines.append(
            f"- {proof['metric']} on validation {proof['metric_now']:.4f}, the checkpoint {proof['metric_was']:.4f}"
        )
    lines.append(
        f"- one request {proof['ms']['one']:.2g} ms, 256 together {proof['ms']['many']:.3g} ms (the checkpoint "
        f"{proof['ms_checkpoint']['one']:.2g} and {proof['ms_checkpoint']['many']:.3g}), where it was exported"
    )
    if "recall10" in proof:
        lines.append(f"- the index finds {proof['recall10']:.1%} of the exact top 10")
    return lines
