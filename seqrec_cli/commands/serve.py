"""`seqrec serve`: a trained model as an HTTP service."""

import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.serve_models import load, load_beside
from seqrec_cli.commands.serve_workers import supervise
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import ServeConfig
from seqrec_cli.saying import silent

if TYPE_CHECKING:
    from seqrec_cli.serving.batching import Batcher
    from seqrec_cli.serving.exposure_writer import ExposureWriter
    from seqrec_cli.serving.service import Answering, Beside, Loaded
    from seqrec_cli.serving.telemetry import Journal, Meters

PACKAGES = ("fastapi", "uvicorn", "httptools", "prometheus_client")
OWN = "seqrec_cli.serving"  # the room's logger
TOKEN = "SEQREC_TOKEN"  # of the environment, for a token in a setting would lie in files and process lists


def main(cfg: ServeConfig) -> dict[str, Any]:
    """Answer until ended by a signal; where it listened."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise SeqrecError(f"serve needs what is not installed here ({', '.join(missing)}): pip install 'seqrec[serve]'")
    token = _token()
    with _listening(cfg.host, cfg.port) as listener, _log_of_ours(cfg):
        address = f"http://{_in_a_url(cfg.host)}:{listener.getsockname()[1]}"

        def started() -> None:
            if cfg.runs is not None and cfg.log is None:
                say("WARNING: exposures and feedback are not kept; give log=FILE_OR_FOLDER to compare the runs by them")
            say(f"{address}/recommend (how to ask: {address}/docs)")
            if cfg.has_page:
                say(f"{address}/ (the page)")
            if token is None and not _is_loopback(cfg.host):
                say(
                    f"WARNING: whoever reaches {cfg.host} may ask; set {TOKEN} in the environment to a token to ask for"
                )

        interrupted = (
            answer(cfg, listener, started) if cfg.workers == 1 else supervise(cfg, listener, answer, started=started)
        )
    return {"address": address, "interrupted": interrupted}


def answer(cfg: ServeConfig, listener: socket.socket, started: Callable[[], None]) -> bool:
    """Load the model and answer what comes to `listener` until a signal; whether that was an interruption."""
    from seqrec_cli.serving.arms import Arms
    from seqrec_cli.serving.batching import Batcher
    from seqrec_cli.serving.browsing import Browsing, add_browsing
    from seqrec_cli.serving.exposure_writer import ExposureWriter
    from seqrec_cli.serving.gate import Gate, Limits
    from seqrec_cli.serving.reloading import Reloading
    from seqrec_cli.serving.server import Server
    from seqrec_cli.serving.service import Beside, build_service
    from seqrec_cli.serving.telemetry import Journal, Meters
    from seqrec_cli.serving.web_page import FILES, add_page

    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to load anew
    loaded, journal, meters = [load(cfg, say, run=run) for run in cfg.runs or (None,)], Journal(), Meters()
    beside = None if cfg.beside is None else Beside(load_beside(cfg, cfg.beside, loaded[0]))
    log = None if cfg.log is None else ExposureWriter(cfg.log)
    batcher = Batcher(rows=cfg.batch, wait_s=cfg.wait_ms / 1000, coming=lambda: gate.inside, tell=meters.batch)
    arms = _answering(cfg, loaded, beside=beside, log=log, batcher=batcher, journal=journal, meters=meters)
    feedback = arms[0].feedback if isinstance(arms[0], Arms) and log is not None else None
    service = build_service(arms[0], meters, feedback)
    add_browsing(service, Browsing(arms[0], top=cfg.top, most=arms[0].most))
    if cfg.has_page:
        add_page(service)
    gate = Gate(
        service,
        Limits(cfg.most_bytes, -(-cfg.waiting // cfg.workers), cfg.timeout_s),
        token=_token(),
        journal=journal,
        meters=meters,
        routes={route.path for route in service.routes if hasattr(route, "path")},
        open_files=FILES if cfg.has_page else (),
    )
    reloadings = []
    for run, arm in zip(cfg.runs or (None,), arms, strict=True):
        ckpt, *stages = cfg.parts if run is None else (run,)
        again = partial(load, cfg, silent, run=run)
        reloadings.append(Reloading(ckpt, again, arm, journal=journal, meters=meters, stages=stages))
    if cfg.beside is not None and beside is not None:
        again = partial(load, cfg, silent, run=cfg.beside)
        reloadings.append(Reloading(cfg.beside, again, beside, journal=journal, meters=meters))
    for each in reloadings:
        each.start(cfg.watch_s)

    def reload() -> None:
        for each in reloadings:
            each.ask()

    server = Server(gate, reload=reload, grace_s=cfg.timeout_s)
    _log_into(journal)
    started()
    try:
        server.run(sockets=[listener])
    finally:
        for each in reloadings:
            each.close()
        batcher.close()
        if log is not None:
            log.close()
        journal.close()
    return server.interrupted


def _answering(
    cfg: ServeConfig,
    loaded: "list[Loaded]",
    *,
    beside: "Beside | None",
    log: "ExposureWriter | None",
    batcher: "Batcher",
    journal: "Journal",
    meters: "Meters",
) -> "list[Answering]":
    """What answers, an arm each; the first is the whole service's."""
    from seqrec_cli.serving.arms import Arms
    from seqrec_cli.serving.assignment import Assignment, arm_names
    from seqrec_cli.serving.bodies import Most
    from seqrec_cli.serving.service import Answering

    most = Most(cfg.most_events, cfg.most_candidates, cfg.most_left_out)
    if cfg.runs is None and log is None:
        return [Answering(loaded[0], batcher, top=cfg.top, most=most, meters=meters, beside=beside)]
    return Arms(
        loaded,
        batcher,
        top=cfg.top,
        most=most,
        meters=meters,
        assignment=Assignment(arm_names(cfg.checkpoints), cfg.shares, cfg.salt),
        log=log,
        tell=lambda why: journal.write("not logged", reason=why),
    ).arms


def _token() -> str | None:
    token = os.environ.get(TOKEN)
    if token is not None and (not token.isascii() or not token.isprintable() or not token.strip() or " " in token):
        raise SeqrecError(
            f"the environment's {TOKEN} is no bearer token: give printable ASCII without spaces, or unset it"
        )
    return token


def _log_into(journal: "Journal") -> None:
    """What uvicorn and asyncio have to say stands among our own lines."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            journal.write("log", level=record.levelname, logger=record.name, message=self.format(record))

    for name, level in (("uvicorn", logging.WARNING), ("asyncio", logging.WARNING), (OWN, logging.INFO)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Handler()], False
        logger.setLevel(level)


def _log_of_ours(cfg: ServeConfig) -> AbstractContextManager[None]:
    """While the service runs, others are told that its log has a writer."""
    if cfg.log is None:
        return nullcontext()
    from seqrec_cli.serving.assignment import Assignment, arm_names
    from seqrec_cli.serving.log_writers import written_by_us

    return written_by_us(cfg.log, Assignment(arm_names(cfg.checkpoints), cfg.shares, cfg.salt).plan, say)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise SeqrecError(f"host={host} port={port}: cannot listen there ({why}); choose another") from error


def _in_a_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
