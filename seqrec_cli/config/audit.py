"""What the verb `audit` may be told."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.dataset import AnyDataset
from seqrec_cli.config.protocol import AnyProtocol
from seqrec_cli.config.schema import EvaluationConfig, HardwareConfig
from seqrec_cli.config.settings import Settings


class AuditConfig(Settings):
    """The verb `audit`."""

    dataset: AnyDataset | None = Field(description="the dataset; null with a ckpt, which has its own")
    protocol: AnyProtocol  # of the dataset: with a ckpt, the run's own
    ckpt: str | None = Field(
        description="a run folder or a checkpoint file: its data are audited under its protocol, and its model is "
        "measured on reordered histories too; null: no model"
    )
    data_dir: str = Field(description="folder of downloaded and preprocessed data (of a dataset)")
    run_dir: str | None = Field(description="folder for audit.json and audit.png; null to print only")
    split: Literal["val", "test"] = Field(description="whose requests are looked at; models are measured on val")
    burst_seconds: int = Field(ge=1, description="how long a burst's window is")
    burst_events: int = Field(ge=2, description="events of a user within the window that are a burst")
    repetitions: int = Field(ge=1, description="random orders of ties and of bursts")
    metrics: tuple[str, ...] = Field(min_length=1, description="metrics of ranks that other orders are judged by")
    max_length: int = Field(ge=1, description="history events that the counted baselines are given")
    events: int = Field(
        ge=1, description="of longer logs so many events, of users drawn at random, are reordered and counted"
    )
    requests: int = Field(ge=1, description="at most so many requests are ranked, and asked of counts")
    tokens: int | None = Field(
        ge=1000, description="so many events are compared with as many words of English; null: no comparison"
    )
    endings: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        description="with a ckpt: whether users with so many last events in common get other lists; []: not asked"
    )
    drift: int = Field(
        ge=0,
        le=100,
        description="with a ckpt of an encoder: how often an item's users are found, and the item that these fit best; "
        "0: not asked",
    )
    seed: int = Field(ge=0, description="seed of orders and draws")
    evaluation: EvaluationConfig
    hardware: HardwareConfig

    @model_validator(mode="after")
    def _one_log(self) -> Self:
        if (self.dataset is None) == (self.ckpt is None):
            raise ValueError(
                "dataset: give the data to audit, dataset=NAME, or a run, ckpt=FOLDER, which has its own (not both)"
            )
        return self

    @model_validator(mode="after")
    def _metrics_of_ranks(self) -> Self:
        from seqrec_cli.metrics.table import rank_metric  # numpy: not before there is something to check

        for name in self.metrics:
            try:
                rank_metric(name)
            except ValueError as error:
                raise ValueError(f"metrics: {error}") from error
        return self
