"""What each verb may be told. The record of `train`, of which a run consists, is in `schema.py`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from seqrec_cli.config.schema import DataConfig, HardwareConfig, TrainConfig
from seqrec_cli.config.settings import Settings

Length = Annotated[int, Field(ge=1)]


class PlanConfig(TrainConfig):
    """The verb `plan`: what it plans is the `train` of the same settings."""


class RestoringConfig(Settings):
    """A verb that begins with a trained model. Everything not named here is restored from the run."""

    ckpt: str = Field(description="a run folder or a checkpoint file")
    archive: str | None = Field(description="the raw file, if it has moved since the run")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the run's own")


class EvaluateConfig(RestoringConfig):
    """The verb `evaluate`."""

    split: Literal["val", "test"] = Field(description="which held-out events are ranked")
    run_dir: str | None = Field(description="folder for metrics.json and ranks; null to print only")
    history: tuple[Length, ...] | None = Field(
        min_length=1, description="also measure with these numbers of latest events alone: '[10,20,50]'; null: no"
    )
    hardware: HardwareConfig


class EnsembleConfig(Settings):
    """The verb `ensemble`. Everything not named here is restored from the runs."""

    ckpts: tuple[str, ...] = Field(
        min_length=2, description="run folders or checkpoint files of encoders: '[runs/a,runs/b]'"
    )
    archive: str | None = Field(description="the raw file, if it has moved since the runs")
    data_dir: str | None = Field(description="folder of preprocessed data; null for the runs' own")
    run_dir: str | None = Field(description="the ensemble's folder; null for a dated one under outputs/")
    test: Literal["once", "best", "all", "none"] = Field(
        description="when the ensemble's test set is read, as evaluation.test of train; its members' never is"
    )
    hardware: HardwareConfig


class CompareConfig(Settings):
    """The verb `compare`."""

    runs: tuple[str, ...] = Field(
        min_length=2, description="run folders, the one to compare with first: '[runs/a,runs/b]'"
    )
    split: Literal["val", "test"] = Field(description="which held-out events")
    metrics: tuple[str, ...] = Field(min_length=1, description="metrics of ranks, such as ndcg@10 or mrr")
    segments: int = Field(ge=1, description="parts of the users, by the length of their history; 1: all together")
    may_differ: tuple[str, ...] = Field(
        description="fields of the protocol in which the runs may differ: '[chosen_by,max_length]'"
    )

    @field_validator("metrics")
    @classmethod
    def _of_ranks(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        from seqrec_cli.metrics.table import rank_metric  # numpy: not before there is something to check

        for name in metrics:
            try:
                rank_metric(name)
            except ValueError as error:
                raise ValueError(f"metrics: {error}") from error
        return metrics


class ExportConfig(RestoringConfig):
    """The verb `export`."""

    format: str = Field(description="torch: a torch.export program; onnx: for ONNX Runtime (needs the onnx extra)")
    out: str | None = Field(description="folder to write to; null for `export/` in the run's folder")


class ExplainConfig(RestoringConfig):
    """The verb `explain`."""

    user: str | int = Field(description="the user's raw id")
    item: str | int | None = Field(description="the raw id of the item to explain; null for those recommended")
    top: int = Field(ge=1, description="recommended items to explain, best first")
    events: int = Field(ge=1, description="past events shown for an item, the heaviest first")
    out: str | None = Field(description="the picture's file; null for explain_USER.png in the run's folder")


class RecommendConfig(RestoringConfig):
    """The verb `recommend`."""

    user: str | int | None = Field(description="the user's raw id; with a history, for models that know users")
    history: tuple[str | int, ...] | None = Field(
        description="raw item ids, the latest last; null: the user's events in the data"
    )
    times: tuple[int, ...] | None = Field(
        description="when the history's events happened, in seconds since 1970, for models that read it"
    )
    asked_at: int | None = Field(description="when the answer is for; null: at the latest event's time")
    context: dict[str, str] = Field(description="the request's context, for models that read it: '{device: mobile}'")
    top: int = Field(ge=1, description="how many items, the best first")
    repeats: bool = Field(description="items of the history may come back")
    hardware: HardwareConfig


MOST_SERVED = 100  # items of an answer


class ServeConfig(RestoringConfig):
    """The verb `serve`."""

    host: str = Field(description="the address to listen at; 0.0.0.0: at every one of this machine's")
    port: int = Field(ge=0, le=65535, description="the port; 0: one that is free")
    top: int = Field(ge=1, le=MOST_SERVED, description="how many items, where a request does not say (top_k)")
    hardware: HardwareConfig


class DownloadConfig(DataConfig):
    """The verb `download`."""


class PreprocessConfig(DataConfig):
    """The verb `preprocess`."""
