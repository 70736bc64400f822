"""The runs behind the tables of docs/critique, and the tables: what has no result yet is trained, in one process.

    python -m scripts.critique_runs --archive ml-100k=ml-100k.zip --archive lastfm=LastFM.txt
    python -m scripts.critique_runs --list
    python -m scripts.critique_runs --tables-only
"""

import argparse
import hashlib
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "critique"
METRICS = ("hr@10", "ndcg@10")


class Arm(NamedTuple):
    table: str
    log: str
    name: str
    overrides: tuple[str, ...]


class Run(NamedTuple):
    arm: Arm
    seed: int


def read_tables(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def arm_of(tables: dict[str, Any], table: str, log: str, name: str) -> Arm:
    """The arm that is trained: that of another table where this one has the same settings."""
    settings = tables[table]["arms"][name]
    if isinstance(settings, dict):
        return arm_of(tables, settings["same"][0], log, settings["same"][1])
    return Arm(table, log, name, (*tables[table]["logs"][log], *settings))


def runs_of(tables: dict[str, Any], names: list[str], logs: list[str], seeds: list[int]) -> list[Run]:
    """In order of logs, tables, seeds, arms; each once."""
    found = [
        Run(arm_of(tables, table, log, name), seed)
        for log in logs
        for table in names
        if log in tables[table]["logs"]
        for seed in seeds
        for name in tables[table]["arms"]
    ]
    return list(dict.fromkeys(found))


def read_results(path: Path) -> dict[Run, dict[str, Any]]:
    found = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            arm = Arm(row["table"], row["log"], row["arm"], tuple(row["overrides"]))
            found[Run(arm, row["seed"])] = row
    return found


def folder_of(run: Run, work: Path) -> Path:
    slug = re.sub(r"[^\w.=-]+", "-", run.arm.name).strip("-")
    return work / "runs" / run.arm.table / run.arm.log / slug / f"seed_{run.seed}"


def trained(run: Run, archive: str, work: Path, known_flops: float | None) -> dict[str, Any]:
    """Train and measure one run; its row."""
    from seqrec_cli.commands.train import main as train
    from seqrec_cli.config.compose import compose
    from seqrec_cli.config.schema import TrainConfig
    from seqrec_cli.config.validate import dump, validate

    folder = folder_of(run, work)
    if folder.is_dir():
        shutil.rmtree(folder)
    overrides = [
        re.sub(r"\{run:(.*)\}", lambda found: str(folder_of(run._replace(arm=run.arm._replace(name=found[1])), work)), text)
        for text in run.arm.overrides
    ]
    overrides += [f"dataset.archive={archive}", f"data_dir={work / 'data'}", f"trainer.seed={run.seed}"]
    overrides += ["hardware.threads=1", "evaluation.baselines=false"]
    cfg = validate("train", compose("train", [*overrides, f"run_dir={folder}"]))
    assert isinstance(cfg, TrainConfig)
    began = time.process_time()
    result = train(cfg)
    seconds = time.process_time() - began
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    flops = flops_of(cfg) if known_flops is None else known_flops
    plain = dump(cfg)
    for name in ("run_dir", "data_dir"):
        plain.pop(name)
    plain["dataset"].pop("archive")
    plain["trainer"].pop("seed")
    config = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]
    half = {
        name: (result["intervals"]["test"][name][1] - result["intervals"]["test"][name][0]) / 2 for name in METRICS
    }
    return {
        "table": run.arm.table,
        "log": run.arm.log,
        "arm": run.arm.name,
        "seed": run.seed,
        "overrides": list(run.arm.overrides),
        "val": {name: round(result["val"][name], 5) for name in METRICS},
        "test": {name: round(result["test"][name], 5) for name in METRICS},
        "half": {name: round(half[name], 5) for name in METRICS},
        "best_epoch": manifest["fit"]["best_epoch"],
        "epochs": manifest["fit"]["epochs"],
        "parameters": manifest["parameters"],
        "cpu_s": round(seconds, 1),
        "tflop_epoch": flops,
        "config": config,
        "data": manifest["data"]["fingerprint"][:12],
    }


def flops_of(cfg: Any) -> float | None:
    """TFLOP of an epoch, as `seqrec plan` counts them."""
    from functools import partial

    from seqrec_cli.commands.settle import settle
    from seqrec_cli.commands.teaching import stand_in
    from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows, worked_positions
    from seqrec_cli.commands.vectors_of_run import give_vectors
    from seqrec_cli.data.preprocess import prepare
    from seqrec_cli.protocols.view.build import with_view
    from seqrec_cli.training.precision import resolve_precision
    from seqrec_cli.training.step_cost import epoch_flops

    precision = resolve_precision(cfg.hardware)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), lambda line: None), cfg.protocol, lambda line: None)
    cfg = settle(cfg, log, "plan")
    model = fresh_model(cfg, log, precision.device)
    give_vectors(model, cfg, log)
    objective = objective_for(cfg, log, precision.device)
    rows = training_rows(cfg, objective, log, device=precision.device, soft=stand_in(cfg, log))
    flops = epoch_flops(model, objective, rows, precision=precision, worked=partial(worked_positions, cfg))
    return float(f"{flops / 1e12:.4g}")


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", action="append", default=[], help="LOG=FILE, once for each log")
    parser.add_argument("--only", action="append", default=[], help="a table; may be given several times")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, default=Path("outputs/critique"))
    parser.add_argument("--arms", type=Path, default=PAGES / "arms.yaml")
    parser.add_argument("--results", type=Path, default=PAGES / "results.jsonl")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    tables = read_tables(asked.arms)
    archives = dict(each.split("=", 1) for each in asked.archive)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    failed = 0
    for run in runs_of(tables, asked.only or list(tables), list(archives), seeds):
        known = read_results(asked.results)
        if run in known:
            continue
        flops = next((row["tflop_epoch"] for each, row in known.items() if each.arm == run.arm), None)
        try:
            row = trained(run, archives[run.arm.log], asked.work, flops)
        except Exception as error:
            failed += 1
            print(f"FAILED {run}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        with asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"RESULT {run.arm.table} {run.arm.log} {run.arm.name} {run.seed}: {row['test']} {row['cpu_s']}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
