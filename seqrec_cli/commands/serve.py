"""`seqrec serve`: a trained model as an HTTP service."""

import importlib.util
import os
import socket
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import ServeConfig
from seqrec_cli.serving.service import build_service

PACKAGES = ("fastapi", "uvicorn")


def main(cfg: ServeConfig) -> dict[str, Any]:
    """Answer until interrupted; where it listened."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise SeqrecError(f"serve needs what is not installed here: pip install {' '.join(missing)}")
    import uvicorn

    with _listening(cfg.host, cfg.port) as listener:
        run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
        recommending = recommending_of(run, cfg.newer)
        facts = {
            "model_loaded": True,
            "model": run.cfg.model.name,
            "model_version": f"epoch_{run.epoch}",
            "vocab_size": run.log.num_items,
            "dataset": run.cfg.dataset.name,
            "device": str(run.precision.device),
        }
        service = build_service(recommending, cfg.top, facts)
        address = f"http://{cfg.host}:{listener.getsockname()[1]}"
        say(f"{address}/recommend (how to ask: {address}/docs)")
        uvicorn.Server(uvicorn.Config(service, log_level="warning")).run(sockets=[listener])
    return {"address": address}


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise SeqrecError(
            f"host={host} port={port}: cannot listen there ({os.strerror(error.errno or 0)}); choose another"
        ) from error
