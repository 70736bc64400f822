"""A log larger than memory, from its raw files to training: seconds, and the anonymous memory that each part holds.

    python -m scripts.bench_large_log FOLDER --events 2e8 --users 5e6 --items 2e6 --memory 8GiB --json FILE

Writes a synthetic log (kept, and found again), preprocesses it in a process of its own, and trains on a hundredth and
a tenth of as many events (and users) over the same items, with sampled softmax and row-sparse tables, for --steps steps
or an epoch, if that is shorter (`--shares` without a number: none; `--with dataset.user_core=5` sets what it likes for
both). To be seen: a peak of preprocessing below --memory, and as much memory in training
whatever the log's length. Memory is anonymous memory (`scripts/watched.py`): pages of mapped files are not in it.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from scripts.large_log import write_log
from scripts.watched import anonymous, watched

SETTINGS = [
    "dataset=csv",
    "dataset.duplicates=drop",
    "dataset.engine=duckdb",
    "protocol.click_negatives=5",
]
TRAINING = [
    "model=sasrec",
    "model.max_length=50",
    "model.embed_dim=32",
    "objective=sampled_softmax",
    "hardware.embedding=sparse",
    "hardware.device=cpu",
    "trainer.batch_size=256",
]
MEGABYTE = 2**20


def log_of(folder: Path, asked: argparse.Namespace, share: float) -> tuple[Path, dict[str, float]]:
    """The raw files of that share of the events, made if they are not there; and how many there are."""
    sizes = {"events": int(asked.events * share), "users": int(asked.users * share), "items": int(asked.items)}
    path = folder / f"log-{sizes['events']}"
    if not (path / "_SUCCESS").exists():
        written = write_log(path, text=True, **sizes)
        (path / "_SUCCESS").touch()
        print(f"{path}: {sizes['events']:,} events, {written / 1e9:.2f} GB", flush=True)
    return path, dict(sizes)


def preprocessed(folder: Path, log: Path, memory: str, further: list[str]) -> dict[str, float]:
    """`seqrec preprocess` in a process of its own."""
    command = [sys.executable, "-m", "seqrec_cli", "preprocess", *SETTINGS, *further]
    return watched([*command, f"dataset.archive={log}", f"dataset.memory={memory}", f"data_dir={folder / 'data'}"])


def train(folder: Path, log: Path, steps: int, further: list[str]) -> dict[str, Any]:
    """Some steps of `seqrec train` in this process: when the first was done, rates, and memory before and after."""
    began = time.perf_counter()
    from scripts.bench_own import drive, set_up
    from seqrec_cli.config.compose import compose
    from seqrec_cli.config.schema import TrainConfig
    from seqrec_cli.config.validate import validate

    data = [f"dataset.archive={log}", f"data_dir={folder / 'data'}"]
    cfg = validate("train", compose("train", [*SETTINGS, *TRAINING, *further, *data], None))
    assert isinstance(cfg, TrainConfig)
    setup = set_up(cfg)
    opened, ready = time.perf_counter() - began, anonymous_now()
    peaks, done = [ready], threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            peaks.append(anonymous_now())

    threading.Thread(target=look, daemon=True).start()
    count = max(min(steps, setup.rows.steps - 1), 1)
    marks = drive(setup, 1, count, lambda: None, lambda: None)[2]
    done.set()
    timed = marks.at[-1] - marks.at[0]
    return {
        "events": len(setup.log.items_N),
        "users": setup.log.num_users,
        "items": setup.log.num_items,
        "seconds_until_rows": opened,
        "seconds_until_first_step": marks.at[0] - began,
        "steps": count,
        "steps_of_an_epoch": setup.rows.steps,
        "targets_a_second": sum(marks.targets[1:]) / timed,
        "targets_of_these_steps": sum(marks.targets[1:]),
        "training_events": len(setup.log.items_N) - 2 * setup.log.num_users,
        "anonymous_mb_before_training": ready / MEGABYTE,
        "anonymous_mb_first_tenth": max(peaks[: max(len(peaks) // 10, 1)]) / MEGABYTE,
        "anonymous_mb_peak": max(peaks) / MEGABYTE,
        "anonymous_mb_at_the_end": peaks[-1] / MEGABYTE,
    }


def anonymous_now() -> int:
    """Bytes of anonymous memory of this process."""
    import os

    return anonymous(os.getpid())


def trained(folder: Path, log: Path, steps: int, further: list[str]) -> dict[str, Any]:
    """`train` in a process of its own."""
    file = folder / "train.json"
    command = [sys.executable, "-m", "scripts.bench_large_log", str(folder), "--train", str(log), "--steps", str(steps)]
    watched([*command, "--json", str(file), *(["--with", *further] if further else [])])
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=float, default=2e6)
    parser.add_argument("--users", type=float, default=5e4)
    parser.add_argument("--items", type=float, default=2e4)
    parser.add_argument("--memory", default="8GiB")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.01, 0.1], help="of the events, to train on")
    parser.add_argument("--with", dest="further", nargs="*", default=[], metavar="OVERRIDE", help="of seqrec")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.train is not None:
        figures: dict[str, Any] = train(asked.folder, asked.train, asked.steps, asked.further)
    else:
        log, sizes = log_of(asked.folder, asked, 1.0)
        found = preprocessed(asked.folder, log, asked.memory, asked.further)
        figures = {"log": sizes, "preprocess": found, "train": []}
        print(json.dumps(figures), flush=True)
        for share in asked.shares:
            part, _ = log_of(asked.folder, asked, share)
            preprocessed(asked.folder, part, asked.memory, asked.further)
            figures["train"].append(trained(asked.folder, part, asked.steps, asked.further))
            print(json.dumps(figures["train"][-1]), flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
