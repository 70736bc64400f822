"""Logged requests, the clicked item against the others shown; users are split, all requests of a user on one side."""

from typing import ClassVar

from pydantic import Field

from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.protocols.view.requests import CANDIDATES as CANDIDATES
from seqrec_cli.protocols.view.requests import requests_of, split_users
from seqrec_cli.protocols.view.split import Split

HELD_OUT = "by user: the requests of held-out users, who do not train"
TARGETS = {
    "val": "the last request of users who did not train",
    "test": "the last request of users who did not train",
}


class Config(ProtocolConfig):
    """Which users are held out."""

    needs_impressions: ClassVar[bool] = True
    fixes_training_rows: ClassVar[bool] = True
    splits_users: ClassVar[bool] = True
    one_negative: ClassVar[bool] = True

    held_out_users: float = Field(gt=0, lt=0.5, description="the share of users that validates, and that tests")


def hold_out(cfg: Config, log: PackedLog) -> Split:
    """The users are those with a request."""
    return split_users(log, requests_of(cfg, log), share=cfg.held_out_users, seed=cfg.seed)
