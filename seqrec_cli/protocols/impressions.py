"""Logged requests, the clicked item against the others shown; a user's last tests, the second-last validates."""

from typing import ClassVar

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.protocols.view.requests import CANDIDATES as CANDIDATES
from seqrec_cli.protocols.view.requests import requests_of, split_last_requests
from seqrec_cli.protocols.view.split import Split

HELD_OUT = "last request test, second-last validation"
TARGETS = {
    "val": "each user's last request but one",
    "test": "each user's last request",
}


class Config(ProtocolConfig):
    """Nothing beyond what every protocol has."""

    needs_impressions: ClassVar[bool] = True
    fixes_training_rows: ClassVar[bool] = True
    one_negative: ClassVar[bool] = True


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """Users with fewer than three requests only train."""
    return split_last_requests(log, requests_of(cfg, log))
