"""Every run under a folder as one table: what was trained on what, by which protocol, and what came out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.migrations import migrated
from seqrec_cli.reporting.run_folder import OUTPUTS, RunFolder
from seqrec_cli.reporting.run_search import manifest_of, run_folders

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("path", "state", "finished", "group", "model", "dataset", "objective", "seed", "fingerprint")
RULES = ("protocol", "max_length", "min_rating", "user_core", "item_core", "ranked_users", "chosen_by")
WHOLE = ("seed", "max_length", "user_core", "item_core", "parameters", "epochs", "best_epoch")  # numbers, or missing
COSTS = ("parameters", "epochs", "best_epoch", "wall_seconds", "device", "precision", "error")


def runs(folder: str | Path = OUTPUTS) -> "pd.DataFrame":
    """A row a run, wherever it lies under `folder`: those of sweeps and of several seeds too.

    Columns: `path`; `state` (finished, unfinished, evaluation: the folder of `seqrec evaluate`, or unreadable, with
    what is wrong in `error`); `finished`; `group` (the folder of the seeds or the sweep it belongs to); `model`,
    `dataset`, `objective`, `seed`, the data's `fingerprint`; the protocol (`protocol`, `max_length`, `min_rating`,
    `user_core`, `item_core`, `ranked_users`, `chosen_by`); metrics as `val_ndcg@10`, `test_auc`, ...; `parameters`,
    `epochs`, `best_epoch`, `wall_seconds`, `device`, `precision`. What a run does not tell is missing (NaN, None).

    Raises SeqrecError where there is no such folder.

    Examples:
        >>> seqrec_cli.runs(folder)[["state", "model", "dataset"]].values.tolist()
        [['finished', 'sasrec', 'synthetic']]
    """
    import pandas as pd

    top = Path(folder).expanduser()
    if not top.is_dir():
        raise SeqrecError(f"{top} is no folder")
    rows = [_row(path, top) for path in run_folders(top)]
    measured = [key for row in rows for key in row if key.startswith(("val_", "test_"))]
    table = pd.DataFrame(rows, columns=[*FACTS, *RULES, *dict.fromkeys(measured), *COSTS])
    return table.astype({**dict.fromkeys(WHOLE, "Int64"), "finished": bool})


def _row(path: Path, top: Path) -> dict[str, Any]:
    run = RunFolder(path)
    row: dict[str, Any] = {"path": str(path), "finished": run.is_done}
    row |= {"state": "finished" if run.is_done else "unfinished", "group": _group(path, top)}
    try:
        manifest = run.read_manifest()
        row |= _costs(manifest)
        if run.config_yaml.is_file():
            row |= _settings(migrated(run.read_config()))
        elif "ckpt" in manifest or "ranker" in manifest:
            row["state"] = "evaluation"
        if run.metrics_json.is_file():
            row |= _measured(run.read_metrics())
    except Exception as error:  # a torn or foreign file raises many kinds: that folder's row says so, the others stay
        row |= {"state": "unreadable", "finished": False, "error": one_line(error)}
    return row


def _group(path: Path, top: Path) -> str | None:
    parent = path.parent
    if path == top:
        return None
    return str(parent) if (parent / "jobs.jsonl").is_file() or "seeds" in manifest_of(parent) else None


def _costs(manifest: dict[str, Any]) -> dict[str, Any]:
    fit, data = manifest.get("fit", {}), manifest.get("data", {})
    return {
        "fingerprint": data.get("fingerprint"),
        "device": manifest.get("hardware", {}).get("device"),
        **{name: manifest.get(name) for name in ("parameters", "wall_seconds", "precision")},
        **{name: fit.get(name) for name in ("epochs", "best_epoch")},
    }


def _settings(plain: dict[str, Any]) -> dict[str, Any]:
    data, trainer = plain["dataset"], plain["trainer"]
    return {
        "model": plain["model"]["name"],
        "dataset": data["name"],
        "objective": plain["objective"]["name"],
        "seed": trainer["seed"],
        "max_length": plain["model"]["max_length"],
        # Of an older run the protocol is a setting of the dataset.
        "protocol": plain["protocol"]["name"] if "protocol" in plain else data["protocol"],
        **{name: data[name] for name in ("min_rating", "user_core", "item_core")},
        "ranked_users": plain["evaluation"]["ranked_users"],
        "chosen_by": trainer["monitor"],
    }


def _measured(metrics: dict[str, Any]) -> dict[str, Any]:
    rules = metrics.get("protocol", {})
    recorded = {"fingerprint": rules.get("fingerprint"), "dataset": rules.get("dataset")}
    values = {f"{split}_{name}": value for split in ("val", "test") for name, value in metrics.get(split, {}).items()}
    return {name: value for name, value in recorded.items() if value is not None} | values
