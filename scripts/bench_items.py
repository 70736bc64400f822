"""Milliseconds a change of a running service's items, and of a request before and after many.

    seqrec serve ckpt=RUN state=DIR port=8001 &
    python -m scripts.bench_items http://127.0.0.1:8001 [--items 1000] [--requests 500] [--attributes JSON]

One client with one connection. Items are added by attributes, or `like` the item 1; of the added ones a tenth is
removed.
"""

import argparse
import http.client
import json
import statistics
import time
from urllib.parse import urlsplit


class Client:
    """A connection that is kept."""

    def __init__(self, address: str) -> None:
        where = urlsplit(address)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port)

    def ms(self, method: str, path: str, body: object = None) -> float:
        """How long an answer took; SystemExit where it is a refusal."""
        started = time.perf_counter()
        self._connection.request(method, path, None if body is None else json.dumps(body))
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(text.decode())
        return 1000 * (time.perf_counter() - started)


def told(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    print(f"{name}: median {statistics.median(ordered):.2f} ms, 95 % below {ordered[int(0.95 * len(ordered))]:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--attributes", type=json.loads, default=None)
    given = parser.parse_args()
    client = Client(given.address)
    how = {"like": [1]} if given.attributes is None else {"attributes": given.attributes}
    for when in ("before", "after"):
        bodies = [{"user_history": [1 + n % 50, 60 + n % 30, 100 + n % 9]} for n in range(given.requests)]
        told(f"a request {when}", [client.ms("POST", "/recommend", body) for body in bodies])
        if when == "before":
            told("an item added", [client.ms("PUT", f"/items/added{n}", how) for n in range(given.items)])
            gone = [client.ms("DELETE", f"/items/added{n}") for n in range(0, given.items, 10)]
            told("an item removed", gone)


if __name__ == "__main__":
    main()
