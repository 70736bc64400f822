"""Fingerprints of runs made when the protocol was a setting of the dataset, so that their checkpoints still fit."""

import hashlib
import json
from typing import Any

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog

FORMAT = 2  # of the packed log at that time
PROTOCOLS = ("leave_last", "positions", "last", "impressions", "impressions_by_user")
SHARE = 0.1  # the held-out users' share where a protocol had no use for it


def former_fingerprint(log: PackedLog, cfg: ProtocolConfig) -> str | None:
    """What the same data and the same questions were called then; None where they could not be asked."""
    settings = log.manifest.get("settings")
    asked_then = cfg.name in PROTOCOLS and cfg.seen == "remove" and cfg.candidates == "full" and cfg.ties == "file"
    if settings is None or not asked_then:
        return None
    if log.requests is not None and not cfg.needs_impressions:
        return None  # items that were only shown were not in the catalog
    if settings.get("seed", cfg.seed) != cfg.seed:
        return None
    then = settings | {
        "protocol": cfg.name,
        "click_negatives": cfg.click_negatives,
        "held_out_users": getattr(cfg, "held_out_users", SHARE),
        "seed": cfg.seed,
    }
    return _digest({"raw": log.manifest["raw_sha256"], "settings": _digest(then | {"format": FORMAT})})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
