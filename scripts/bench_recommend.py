"""Recommending to many users: how fast, in how much memory, and whether a killed command ends in the same bytes.

    python -m scripts.bench_recommend [--users 1000000] [--events 30] [--items 20000] [--format parquet] [--ckpt RUN]
        [--folder bench_recommend] [--top 10] [--json FILE] [KEY=VALUE ...]

It makes an input of so many histories (lengths are geometric with that mean, items follow Zipf's law, a hundredth of
them is unknown), answers it in one go, answers it again and kills that process (SIGKILL) when half of its parts are
there, starts the same command once more, and compares the two files byte by byte. Without `--ckpt` it trains a small
SASRec on generated data first. Further words are settings of `seqrec recommend`.
"""

import argparse
import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import seqrec_cli

AT_ONCE = 50_000  # histories that are made and written together
UNKNOWN = 0.01  # of the items
POLL_S = 0.05
MIB = 2**20


def trained(folder: Path, items: int) -> str:
    """A small SASRec over so many items."""
    if not (folder / "run" / "DONE").exists():
        seqrec_cli.run(
            "train",
            [
                "dataset=synthetic",
                "dataset.users=2000",
                f"dataset.items={items}",
                "trainer.max_epochs=1",
                "evaluation.baselines=false",
                "evaluation.test=none",
                f"data_dir={folder / 'data'}",
                f"run_dir={folder / 'run'}",
            ],
        )
    return str(folder / "run")


def write_input(path: Path, ids: list[Any], asked: argparse.Namespace) -> None:
    """Histories in raw ids, in a few numbers' memory."""
    rng = np.random.default_rng(0)
    known = pa.array([str(each) for each in ids] + ["no-such-item"])
    schema = pa.schema([("user", pa.string()), ("history", pa.list_(pa.string()))])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, asked.users, AT_ONCE):
            count = min(AT_ONCE, asked.users - first)
            lengths = np.minimum(rng.geometric(1 / asked.events, count), 20 * asked.events)
            places = (rng.zipf(1.3, int(lengths.sum())) - 1) % len(ids)
            places[rng.random(len(places)) < UNKNOWN] = len(ids)
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
            histories = pa.ListArray.from_arrays(offsets, known.take(pa.array(places)))
            users = pa.array([f"u{first + nth}" for nth in range(count)])
            writer.write_table(pa.table({"user": users, "history": histories}, schema=schema))


def answered(command: list[str], kill_at: tuple[Path, int] | None = None) -> tuple[int, float, float, str]:
    """(exit status, seconds, peak RSS in MiB, what it said) of a process; `kill_at`: kill it when a folder has so many
    parts."""
    started = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout is not None
    if kill_at is not None:
        folder, parts = kill_at
        while running.poll() is None and len(list(folder.glob("part-*.json"))) < parts:
            time.sleep(POLL_S)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
    said = running.stdout.read()
    _, status, usage = os.wait4(running.pid, 0) if running.returncode is None else (0, running.returncode, None)
    peak = 0.0 if usage is None else usage.ru_maxrss / 1024
    running.returncode = os.waitstatus_to_exitcode(status) if usage is not None else status
    return running.returncode, time.perf_counter() - started, peak, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=30)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--format", choices=("parquet", "csv", "jsonl"), default="parquet")
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--ckpt", default=None)
    parser.add_argument("--folder", type=Path, default=Path("bench_recommend"))
    parser.add_argument("--json", type=Path, default=None)
    asked, settings = parser.parse_known_args()
    folder: Path = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    ckpt = asked.ckpt or trained(folder, asked.items)
    requests = folder / f"requests-{asked.users}.parquet"
    write_input(requests, seqrec_cli.load(ckpt).items.tolist(), asked)
    print(f"{requests}: {requests.stat().st_size / MIB:,.0f} MiB", flush=True)

    def command(output: Path) -> list[str]:
        words = [f"ckpt={ckpt}", f"input={requests}", f"output={output}", f"top={asked.top}", f"chunk={asked.chunk}"]
        return [sys.executable, "-m", "seqrec_cli", "recommend", *words, "replace=true", *settings]

    whole, resumed = (folder / f"{name}.{asked.format}" for name in ("whole", "resumed"))
    status, seconds, peak, said = answered(command(whole))
    if status:
        raise SystemExit(said)
    print(said.strip(), flush=True)
    half = max(-(-asked.users // asked.chunk) // 2, 1)
    killed, _, _, _ = answered(command(resumed), (resumed.with_name(f"{resumed.name}.parts"), half))
    left = len(list(resumed.with_name(f"{resumed.name}.parts").glob("part-*.json")))
    again, seconds_again, peak_again, said_again = answered(command(resumed))
    figures = {
        "users": asked.users,
        "seconds": seconds,
        "users_per_second": asked.users / seconds,
        "peak_rss_mib": peak,
        "output_mib": whole.stat().st_size / MIB,
        "killed": killed == -signal.SIGKILL,
        "parts_when_killed": left,
        "resumed": again == 0 and "going on with" in said_again,
        "seconds_of_resumed": seconds_again,
        "peak_rss_mib_of_resumed": peak_again,
        "same_bytes": resumed.exists() and filecmp.cmp(whole, resumed, shallow=False),
    }
    for name, value in figures.items():
        print(f"{name}: {value:,.1f}" if isinstance(value, float) else f"{name}: {value}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if not (figures["killed"] and figures["resumed"] and figures["same_bytes"]):
        raise SystemExit("the resumed answers are not those of one go")


if __name__ == "__main__":
    main()
