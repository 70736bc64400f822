"""A language model's endpoint on this machine, for tests: it answers as it is told, and keeps what it was asked."""

import json
import math
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from seqrec_cli.config.adviser import AdviserConfig
from seqrec_cli.config.tuning import SpaceEntry
from seqrec_cli.tuning.records import TrialRecord, Validation
from seqrec_cli.tuning.space import Space

KEY = "sk-planted-0123456789"
VARIABLE = "SEQREC_ADVISER_KEY"


class Reply(NamedTuple):
    """What goes back over the wire."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012
    seconds: float = 0.0  # before the answer; and between its bytes, where it `drips`
    drips: bool = False


Play = Callable[[list[dict[str, str]]], "Reply | str"]


class Endpoint:
    """`with Endpoint(play) as endpoint:`; `play` turns messages into an answer's text, or into a Reply of any kind."""

    def __init__(self, play: Play) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.keys.append(self.headers["Authorization"])
                endpoint.asked.append({"path": self.path, **body})
                said = play(body["messages"])
                reply = Reply(body=chat(said)) if isinstance(said, str) else said
                time.sleep(reply.seconds)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for part in (
                        [reply.body[at : at + 1] for at in range(len(reply.body))] if reply.drips else [reply.body]
                    ):
                        self.wfile.write(part)
                        time.sleep(reply.seconds if reply.drips else 0)
                except OSError:  # the client has left
                    pass

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "Endpoint":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def chat(text: Any) -> bytes:
    """The body of an answer with this content."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def adviser_config(url: str | None, **changes: Any) -> AdviserConfig:
    """The settings that reach it."""
    plain = {"endpoint": url, "model": "stub", "key_variable": VARIABLE, "timeout": 5.0, "longest": 4.0, "give_up": 3}
    return AdviserConfig.from_plain(plain | changes)


def numbers(**limits: tuple[float, float]) -> Space:
    """A space of numbers between limits; `__` stands for a point in a key."""
    entries = {
        key.replace("__", "."): SpaceEntry.from_plain({"type": "float", "low": low, "high": high})
        for key, (low, high) in limits.items()
    }
    return Space(entries, base={})


def trial(number: int, settings: dict[str, Any], values: list[float], **changes: Any) -> TrialRecord:
    """A complete trial with a validation each epoch; `losses` are its validation losses."""
    losses = changes.pop("losses", [None] * len(values))
    curve = tuple(
        Validation(nth + 1, 10 * (nth + 1), value, loss)
        for nth, (value, loss) in enumerate(zip(values, losses, strict=True))
    )
    best = max(curve, key=lambda at: at.value, default=None)
    plain: dict[str, Any] = {
        "number": number, "settings": settings, "state": "complete", "curve": curve, "best": best,
        "followed": len(values), "seconds": 1.0, "proposed_by": "tpe", "rationale": "", "run_dir": None, "error": None,
    }  # fmt: skip
    plain |= changes
    if plain["state"] == "complete":
        plain.setdefault("value", best.value if best else None)
    return TrialRecord(**plain)


def greedy(messages: list[dict[str, str]]) -> str:
    """Plays well: steps from the best trial so far, ever smaller ones, along one setting after another."""
    asked = messages[1]["content"]
    if "budget is spent" in asked:
        (number,) = re.findall(r"The best so far is trial (\d+)", asked)
        return json.dumps({"trial": int(number), "reasons": "It has the best value, and its curve was flat by then."})
    space = dict(re.findall(r"^- (\S+\.\S+): (.*)$", messages[0]["content"], re.MULTILINE))
    trials = [line.split("; settings ") for line in asked.splitlines() if line.startswith("#")]
    tried = [json.loads(settings) for _, settings in trials]
    values = [re.search(r"; best \S+ (\S+) at", line) for line, _ in trials]
    scored = [(float(value[1]), settings) for value, settings in zip(values, tried, strict=True) if value]
    if not scored:
        first = {key: steps(words, None, 0.0) for key, words in space.items()}
        return json.dumps({"settings": first, "rationale": "the middle of every range"})
    best = max(scored, key=lambda pair: pair[0])[1]
    for share in (0.25, 0.1, 0.04, 0.015, 0.005):
        for key, words in space.items():
            for way in (share, -share):
                found = best | {key: steps(words, best[key], way)}
                if found not in tried:
                    return json.dumps({"settings": found, "rationale": f"near the best so far, with another {key}"})
    return "nothing is left"


def steps(words: str, value: Any, share: float) -> Any:
    """A value of an entry so much farther along its range, the middle for None; the next one at least."""
    if words.startswith("one of "):
        values = json.loads(f"[{words.removeprefix('one of ')}]")
        place = len(values) // 2 if value is None else values.index(value) + (1 if share > 0 else -1)
        return values[min(max(place, 0), len(values) - 1)]
    low, high = (float(end) for end in re.findall(r"from (\S+) to (\S+)", words)[0])
    if "logarithm" in words:
        value = math.sqrt(low * high) if value is None else value * (high / low) ** share
    elif value is None:
        value = (low + high) / 2
    else:
        value += share * (high - low)
    step = re.search(r"in steps of (\S+)", words)
    unit = float(step[1]) if step else 1.0 if "whole" in words else None
    if unit is not None:
        value = low + unit * round((value - low) / unit)
    value = min(max(float(f"{value:.4g}"), low), high)
    return int(value) if "whole" in words else value


WRONG: list[Reply | str] = [
    "Try a higher rate; it helped me before.",
    '{"settings": {"trainer.learning_rate": 0.001}}',
    '```json\n{"settings": {"trainer.lr": 17, "model.dropout": -1}}\n```',
    Reply(200, b"<html><body>Sign in</body></html>"),
    Reply(500, b"Internal Server Error"),
    Reply(429, b'{"error": {"message": "slow down"}}'),
    Reply(200, b"{" * 2_000_000),
    Reply(200, chat("x" * 100_000)),
    Reply(200, chat('{"continues": 99, "epochs": 5}')),
    Reply(seconds=2.0),
]  # in turn: what is no answer; a timeout of less than two seconds makes the last one silence
