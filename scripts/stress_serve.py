"""What clients meet while a running service loads newer checkpoints, or while others send a byte a second.

    seqrec serve ckpt=RUN port=8001 watch_s=0.2 &
    python -m scripts.stress_serve http://127.0.0.1:8001 --reload RUN/best.pt --times 20
    python -m scripts.stress_serve http://127.0.0.1:8001 --slow 100
        [--clients 8] [--seconds 5] [--events 20] [--items 1682]

The load is that of `bench_serve`. `--reload` writes the checkpoint anew, whole and under its own name, and waits each
time until the service counts one more reload. `--slow` compares in turns: without slow clients, with them, and again.
"""

import argparse
import asyncio
import contextlib
import re
import shutil
import time
import urllib.request
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from scripts.bench_serve import load, requests_of

FAILURES = ("lost", "not connected", "unanswered")  # beside statuses that are not 200
PATIENCE_S = 120.0  # until a reload has to be done


def reloads_done(address: str) -> int:
    """As the service counts them."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answered:
        found = re.search(r'^seqrec_reloads_total\{outcome="done"\} ([\d.e+]+)', answered.read().decode(), re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


def reload_once(address: str, ckpt: Path) -> float:
    """Write the checkpoint anew; seconds until the service answers with it."""
    before, started = reloads_done(address), time.perf_counter()
    new = ckpt.with_suffix(".anew")
    shutil.copyfile(ckpt, new)
    new.replace(ckpt)
    while reloads_done(address) == before:
        if time.perf_counter() - started > PATIENCE_S:
            raise SystemExit(f"no reload within {PATIENCE_S:.0f} s: does the service watch {ckpt} (watch_s)?")
        time.sleep(0.05)
    return time.perf_counter() - started


async def under_reloads(
    address: str, ckpt: Path, times: int, *, clients: int, requests: list[bytes]
) -> dict[str, float]:
    """Requests and failures while so many newer checkpoints are taken, one behind the other."""

    async def reloading() -> list[float]:
        return [await asyncio.to_thread(reload_once, address, ckpt) for _ in range(times)]

    task, met = asyncio.create_task(reloading()), Counter[str]()
    while not task.done():
        row = await load(address, clients, 2.0, requests=requests)
        met += Counter({name: int(row[name]) for name in row if name.isdigit() or name in FAILURES})
    seconds = sorted(await task)
    failures = sum(count for name, count in met.items() if name != "200")
    of_reloads = {"reloads": len(seconds), "median_s": seconds[len(seconds) // 2], "longest_s": seconds[-1]}
    return {**of_reloads, "requests": sum(met.values()), "failures": failures}


async def slowly(address: str, at_once: bytes, rest: bytes, ended: Counter[str]) -> None:
    """A client that sends a beginning and then a byte a second, and begins again when it is turned away."""
    url = urlsplit(address)
    while True:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            for byte in (at_once, *(bytes([each]) for each in rest)):
                writer.write(byte)
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    status = await asyncio.wait_for(reader.read(12), 1.0)
                    ended[status[9:12].decode() or "closed"] += 1
                    break
        except ConnectionError:
            ended["closed"] += 1
        finally:
            writer.close()


async def beside_slow(address: str, slow: int, seconds: float, *, clients: int, requests: list[bytes]) -> None:
    """Print rows of the load in turns, without and with slow clients, half of which are in the middle of a body."""
    whole = requests[0]
    head = whole.index(b"\r\n\r\n") + 4
    for _ in range(2):
        print("without", *_words(await load(address, clients, seconds, requests=requests)), flush=True)
        ended = Counter[str]()
        begun = [head if nth % 2 else 1 for nth in range(slow)]  # bytes
        tasks = [asyncio.create_task(slowly(address, whole[:some], whole[some:], ended)) for some in begun]
        await asyncio.sleep(2.0)
        print(f"with {slow}", *_words(await load(address, clients, seconds, requests=requests)), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print("slow ones met", dict(ended), flush=True)


def _words(row: dict[str, float]) -> list[str]:
    return [f"{name} {value:.5g}" for name, value in row.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address")
    parser.add_argument("--reload", type=Path, default=None)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--slow", type=int, default=0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--items", type=int, default=1682)
    parser.set_defaults(route="recommend", candidates=0)
    asked = parser.parse_args()
    requests = requests_of(asked.address, asked)
    if asked.reload is not None:
        found = asyncio.run(
            under_reloads(asked.address, asked.reload, asked.times, clients=asked.clients, requests=requests)
        )
        print(*_words(found))
    if asked.slow:
        asyncio.run(beside_slow(asked.address, asked.slow, asked.seconds, clients=asked.clients, requests=requests))


if __name__ == "__main__":
    main()
